package org.comneck.eval;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import org.comneck.engine.AtomicOutput;
import org.comneck.eval.Neighbours.Share;

/** Writes a run's figures: index.html for people, report.json and figures.csv for programs, report.md for documents. */
public final class ReportFolder {
    private ReportFolder() {}

    /**
     * Writes all four, each whole or not at all.
     *
     * @param command that made it
     * @param version of the program
     */
    public static void write(Outcome outcome, Path folder, String command, String version) {
        write(folder.resolve("index.html"), HtmlReport.of(outcome, command, version));
        write(folder.resolve("report.json"), json(outcome, command, version));
        write(folder.resolve("figures.csv"), csv(outcome));
        write(folder.resolve("report.md"), MarkdownReport.of(outcome));
    }

    private static void write(Path file, String text) {
        AtomicOutput.write(file, out -> out.write(text.getBytes(StandardCharsets.UTF_8)));
    }

    private static String csv(Outcome outcome) {
        StringBuilder out =
                new StringBuilder("model,path,quality,photos,bytes,bpp,estimated_bpp,measure,value,low,high\n");
        outcome.figures().forEach((model, figures) -> {
            for (Outcome.Figure figure : figures) {
                for (Map.Entry<Measure, Share> one : figure.values().entrySet()) {
                    out.append(String.format(
                            Locale.ROOT,
                            "\"%s\",%s,%s,%d,%.1f,%.5f,%s,%s,%.6f,%.6f,%.6f%n",
                            model.replace("\"", "\"\""),
                            figure.setting().path(),
                            MarkdownReport.number(figure.setting().quality()),
                            figure.count(),
                            figure.bytes(),
                            figure.bitsPerPixel(),
                            Double.isNaN(figure.estimatedBitsPerPixel())
                                    ? ""
                                    : String.format(Locale.ROOT, "%.5f", figure.estimatedBitsPerPixel()),
                            one.getKey().name().toLowerCase(Locale.ROOT),
                            one.getValue().value(),
                            one.getValue().low(),
                            one.getValue().high()));
                }
            }
        });
        return out.toString();
    }

    private static String json(Outcome outcome, String command, String version) {
        JsonMapper mapper = new JsonMapper();
        ObjectNode root = mapper.createObjectNode()
                .put("command", command)
                .put("version", version)
                .put("backend", outcome.backend())
                .put("seed", outcome.options().seed());
        var problems = root.putArray("problems");
        outcome.problems().forEach(problems::add);
        var models = root.putArray("models");
        outcome.models().forEach((name, measured) -> {
            ObjectNode model = models.addObject()
                    .put("name", name)
                    .put("file", measured.file())
                    .put("sha256", measured.hash())
                    .put("photos", measured.photos().size());
            var figures = model.putArray("figures");
            for (Outcome.Figure figure : outcome.figures().get(name)) {
                ObjectNode node = figures.addObject()
                        .put("path", figure.setting().path())
                        .put("quality", figure.setting().quality())
                        .put("bytes", figure.bytes())
                        .put("bits_per_pixel", figure.bitsPerPixel());
                put(node, "estimated_bits_per_pixel", figure.estimatedBitsPerPixel());
                figure.values()
                        .forEach((measure, share) -> node.putObject(
                                        measure.name().toLowerCase(Locale.ROOT))
                                .put("value", share.value())
                                .put("low", share.low())
                                .put("high", share.high()));
                double[][] layers = outcome.layers(name, figure.setting());
                var list = node.putArray("layers");
                for (int k = 0; k < layers.length; k++) {
                    if (layers[k] != null) {
                        list.addObject()
                                .put("layer", k)
                                .put("class_cosine", layers[k][0])
                                .put("class_error", layers[k][1])
                                .put("patch_cosine", layers[k][2])
                                .put("patch_error", layers[k][3]);
                    }
                }
            }
            var savings = model.putArray("savings");
            for (Outcome.Saving saving : outcome.savings(name)) {
                ObjectNode node = savings.addObject()
                        .put("measure", saving.measure().name().toLowerCase(Locale.ROOT))
                        .put("path", saving.path())
                        .put("reference", saving.reference());
                put(node, "bd_rate_percent", saving.difference().percent());
                put(node, "low", saving.low());
                put(node, "high", saving.high());
                ObjectNode at = node.putObject("saved_at_quality");
                saving.atQuality().forEach((q, part) -> put(at, MarkdownReport.number(q), part));
                var warnings = node.putArray("warnings");
                saving.difference().warnings().forEach(warnings::add);
            }
            var costs = model.putArray("complexity");
            for (Complexity.Cost cost : measured.costs()) {
                costs.addObject()
                        .put("stage", cost.stage())
                        .put("parameters", cost.parameters())
                        .put("macs", cost.macs())
                        .put("macs_published", cost.published())
                        .put("macs_executed", cost.executed());
            }
            ObjectNode times = model.putObject("milliseconds");
            measured.times()
                    .forEach((stage, time) -> times.put(stage, time.nanos() / 1e6 / Math.max(time.pictures(), 1)));
            ObjectNode bytes = model.putObject("buffer_bytes");
            measured.bytes().forEach(bytes::put);
        });
        return root.toPrettyString() + "\n";
    }

    private static void put(ObjectNode node, String name, double value) {
        if (Double.isFinite(value)) {
            node.put(name, value);
        } else {
            node.putNull(name);
        }
    }
}
