package org.comneck.eval;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.comneck.engine.Photo;
import org.comneck.eval.Neighbours.Share;

/** One page with everything in it: curves, tables, examples, and what it takes to make it again. */
final class HtmlReport {
    private static final String[] COLOURS = {
        "#c2410c", "#1d4ed8", "#64748b", "#15803d", "#7e22ce", "#a16207", "#be185d", "#0e7490", "#4d7c0f", "#334155"
    };

    private static final int WIDTH = 460;
    private static final int HEIGHT = 300;
    private static final int LEFT = 52;
    private static final int BOTTOM = 40;
    private static final int TOP = 14;
    private static final int RIGHT = 12;

    private static final String STYLE = """
            body{font:15px/1.5 system-ui,sans-serif;color:#1e293b;background:#fff;max-width:980px;margin:0 auto;padding:24px}
            h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 10px;border-bottom:1px solid #e2e8f0;padding-bottom:4px}
            h3{font-size:15px;margin:18px 0 6px}p{margin:6px 0;max-width:820px}.small{color:#64748b;font-size:13px}
            .grid{display:flex;flex-wrap:wrap;gap:20px}figure{margin:0}figcaption{font-weight:600;font-size:14px;margin-bottom:2px}
            .wide{overflow-x:auto;width:max-content;max-width:min(100vw - 48px,50vw + 466px)}table{border-collapse:collapse;font-size:12.5px;font-variant-numeric:tabular-nums}
            th,td{padding:3px 6px;text-align:right;border-bottom:1px solid #e2e8f0;white-space:nowrap}th{color:#475569;font-weight:600}
            td:first-child,th:first-child{text-align:left}.text{text-align:left;white-space:normal;min-width:180px}
            .key{display:inline-block;margin-right:16px;font-size:13px}.key i{display:inline-block;width:18px;height:4px;margin-right:6px;vertical-align:middle}
            .shots{display:flex;gap:12px;flex-wrap:wrap;margin-bottom:18px}.shots figure{width:200px}.shots img{width:200px;height:200px;display:block;object-fit:cover}
            .shots img.heat{image-rendering:pixelated;margin-top:6px}.big{display:flex;gap:28px;flex-wrap:wrap;margin:14px 0}.big b{font-size:26px;display:block}
            code{font:13px ui-monospace,monospace;background:#f1f5f9;padding:1px 4px;word-break:break-all}svg text{font:11px system-ui,sans-serif;fill:#475569}
            """;

    /** Paths of a model's own bitstream, which differ from model to model. */
    private static final List<String> OWN =
            List.of(Evaluation.TOKENS, Evaluation.RECONSTRUCTION, Evaluation.POST_PROCESSING);

    private final Outcome outcome;
    private final Map<String, String> colours = new LinkedHashMap<>();
    private final StringBuilder out = new StringBuilder(1 << 20);

    private HtmlReport(Outcome outcome) {
        this.outcome = outcome;
    }

    /**
     * The page.
     *
     * @param command that made it
     * @param version of the program
     */
    static String of(Outcome outcome, String command, String version) {
        HtmlReport report = new HtmlReport(outcome);
        report.page(command, version);
        return report.out.toString();
    }

    private void page(String command, String version) {
        out.append("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>ComNeck evaluation</title>")
                .append("<meta name=\"viewport\" content=\"width=device-width\"><style>")
                .append(STYLE)
                .append("</style></head><body><h1>What is lost, what is saved</h1>");
        int photos = outcome.models().values().iterator().next().photos().size();
        line(
                "%d photos, %s. Rates are real bytes of real files, headers included.",
                photos,
                outcome.options().full()
                        ? "whole"
                        : "prepared as each model's encoder wants them; labels: "
                                + outcome.labels().name().toLowerCase(Locale.ROOT));
        outcome.models().keySet().forEach(this::headline);
        out.append("<h2>Curves over bits per pixel</h2>");
        curves();
        for (String model : outcome.models().keySet()) {
            out.append("<h2>").append(text(model)).append("</h2>");
            figures(model);
            savings(model);
            layers(model);
            complexity(model);
            examples(model);
        }
        making(command, version);
        out.append("</body></html>\n");
    }

    private void line(String format, Object... values) {
        out.append("<p>")
                .append(text(String.format(Locale.ROOT, format, values)))
                .append("</p>");
    }

    private void headline(String model) {
        // The pictures of the first model, for all of them: a codec that was tuned for machines has poor ones.
        List<Outcome.Saving> all = outcome.savings(model).stream()
                .filter(s -> s.path().equals(Evaluation.TOKENS)
                        && s.reference().endsWith(Evaluation.RECONSTRUCTION)
                        && !Double.isNaN(s.difference().percent()))
                .toList();
        String reference = all.isEmpty() ? "" : all.getLast().reference();
        List<Outcome.Saving> savings =
                all.stream().filter(s -> s.reference().equals(reference)).toList();
        out.append("<p><b>").append(text(model)).append("</b>: ");
        if (outcome.options().full()) {
            out.append("rates and picture quality only.</p>");
            return;
        }
        if (savings.isEmpty()) {
            out.append(
                    "tokens from the bitstream and tokens from decoded pixels have no accuracy in common, so no saving can be named.</p>");
            return;
        }
        out.append("bits of tokens from the bitstream against ")
                .append(text(reference))
                .append(" (pixels decoded, then encoded again), at equal quality of the tokens</p><div class=\"big\">");
        for (Outcome.Saving saving : savings) {
            out.append("<div><b>")
                    .append(MarkdownReport.percent(saving.difference().percent()))
                    .append("</b>")
                    .append(text(saving.measure().title()));
            if (!Double.isNaN(saving.low())) {
                out.append("<br><span class=\"small\">")
                        .append(MarkdownReport.percent(saving.low()))
                        .append(" to ")
                        .append(MarkdownReport.percent(saving.high()))
                        .append("</span>");
            }
            out.append("</div>");
        }
        out.append("</div>");
    }

    // ---------------------------------------------------------------- curves

    private record Line(String name, List<Curve.Point> points) {}

    private void curves() {
        List<Outcome.Figure> all =
                outcome.figures().values().stream().flatMap(List::stream).toList();
        StringBuilder charts = new StringBuilder();
        for (Measure measure : MarkdownReport.measures(all)) {
            List<Line> lines = new ArrayList<>();
            double level = Double.NaN;
            boolean first = true;
            for (String model : outcome.models().keySet()) {
                for (String path : outcome.paths(model)) {
                    boolean own = OWN.contains(path);
                    List<Curve.Point> points = outcome.figures().get(model).stream()
                            .filter(f -> f.setting().path().equals(path))
                            .filter(f -> f.values().containsKey(measure))
                            .map(f -> new Curve.Point(
                                    f.bitsPerPixel(), f.values().get(measure).value()))
                            .sorted((a, b) -> Double.compare(a.rate(), b.rate()))
                            .toList();
                    if ((own || first) && !points.isEmpty()) {
                        lines.add(new Line(outcome.models().size() > 1 && own ? model + ", " + path : path, points));
                    }
                }
                Outcome.Figure raw = outcome.figure(model, Evaluation.UNCOMPRESSED, 0);
                if (first && raw != null && raw.values().containsKey(measure)) {
                    level = raw.values().get(measure).value();
                }
                first = false;
            }
            if (!lines.isEmpty()) {
                charts.append("<figure><figcaption title=\"")
                        .append(text(measure.meaning()))
                        .append("\">")
                        .append(text(
                                measure.title() + (measure.share() ? ", %" : measure == Measure.PSNR ? ", dB" : "")))
                        .append("</figcaption>")
                        .append(chart(lines, measure.share() ? 100 : 1, level, true))
                        .append("</figure>");
            }
        }
        out.append("<p>");
        colours.forEach((name, colour) -> out.append("<span class=\"key\"><i style=\"background:")
                .append(colour)
                .append("\"></i>")
                .append(text(name))
                .append("</span>"));
        out.append(
                        "<span class=\"small\">dashed: uncompressed; bits per pixel on a logarithmic scale</span></p><div class=\"grid\">")
                .append(charts)
                .append("</div>");
    }

    private String colour(String name) {
        return colours.computeIfAbsent(name, key -> COLOURS[colours.size() % COLOURS.length]);
    }

    private String chart(List<Line> lines, double factor, double level, boolean logarithmic) {
        double x0 = Double.MAX_VALUE;
        double x1 = -Double.MAX_VALUE;
        double y0 = Double.isNaN(level) ? Double.MAX_VALUE : level * factor;
        double y1 = Double.isNaN(level) ? -Double.MAX_VALUE : level * factor;
        for (Line line : lines) {
            for (Curve.Point point : line.points()) {
                double x = logarithmic ? Math.log(point.rate()) : point.rate();
                x0 = Math.min(x0, x);
                x1 = Math.max(x1, x);
                y0 = Math.min(y0, point.value() * factor);
                y1 = Math.max(y1, point.value() * factor);
            }
        }
        double step = step((y1 - y0) / 5);
        y0 = Math.floor(y0 / step + 1e-9) * step;
        y1 = Math.max(Math.ceil(y1 / step - 1e-9) * step, y0 + step);
        double gap = x1 > x0 ? (x1 - x0) * 0.03 : 0.5;
        x0 -= gap;
        x1 += gap;
        StringBuilder svg = new StringBuilder(String.format(
                Locale.ROOT, "<svg width=\"%d\" height=\"%d\" viewBox=\"0 0 %1$d %2$d\" role=\"img\">", WIDTH, HEIGHT));
        for (double y = y0; y <= y1 + step / 2; y += step) {
            double at = y(y, y0, y1);
            svg.append(String.format(
                    Locale.ROOT,
                    "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%3$.1f\" stroke=\"#e2e8f0\"/>"
                            + "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
                    LEFT,
                    WIDTH - RIGHT,
                    at,
                    LEFT - 6,
                    at + 4,
                    tick(y, step)));
        }
        double[] ticks = logarithmic
                ? new double[] {0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2, 3, 5, 10}
                : java.util.stream.IntStream.rangeClosed(0, 64).asDoubleStream().toArray();
        for (double tick : ticks) {
            double x = logarithmic ? Math.log(tick) : tick;
            if (x >= x0 && x <= x1) {
                svg.append(String.format(
                        Locale.ROOT,
                        "<line x1=\"%.1f\" x2=\"%1$.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#f1f5f9\"/>"
                                + "<text x=\"%1$.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                        x(x, x0, x1),
                        TOP,
                        HEIGHT - BOTTOM,
                        HEIGHT - BOTTOM + 16,
                        MarkdownReport.number(tick)));
            }
        }
        svg.append(String.format(
                Locale.ROOT,
                "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                (LEFT + WIDTH - RIGHT) / 2,
                HEIGHT - 6,
                logarithmic ? "bits per pixel" : "blocks"));
        if (!Double.isNaN(level)) {
            svg.append(String.format(
                    Locale.ROOT,
                    "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%3$.1f\" stroke=\"#1e293b\" stroke-dasharray=\"5 4\"/>",
                    LEFT,
                    WIDTH - RIGHT,
                    y(level * factor, y0, y1)));
        }
        for (Line line : lines) {
            String colour = colour(line.name());
            StringBuilder points = new StringBuilder();
            StringBuilder dots = new StringBuilder();
            for (Curve.Point point : line.points()) {
                double x = x(logarithmic ? Math.log(point.rate()) : point.rate(), x0, x1);
                double y = y(point.value() * factor, y0, y1);
                points.append(String.format(Locale.ROOT, "%.1f,%.1f ", x, y));
                dots.append(String.format(
                        Locale.ROOT,
                        "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"><title>%s: %.4g at %.3f</title></circle>",
                        x,
                        y,
                        colour,
                        text(line.name()),
                        point.value() * factor,
                        point.rate()));
            }
            svg.append("<polyline fill=\"none\" stroke-width=\"2\" stroke=\"")
                    .append(colour)
                    .append("\" points=\"")
                    .append(points)
                    .append("\"/>")
                    .append(dots);
        }
        return svg.append("</svg>").toString();
    }

    private static double x(double x, double x0, double x1) {
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    }

    private static double y(double y, double y0, double y1) {
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP);
    }

    /** 1, 2 or 5 times a power of ten. */
    private static double step(double least) {
        if (!(least > 0)) {
            return 1;
        }
        double power = Math.pow(10, Math.floor(Math.log10(least)));
        for (double factor : new double[] {1, 2, 5}) {
            if (factor * power >= least * 0.999) {
                return factor * power;
            }
        }
        return 10 * power;
    }

    private static String tick(double value, double step) {
        int digits = (int) Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
        return String.format(Locale.ROOT, "%." + digits + "f", value);
    }

    // ---------------------------------------------------------------- tables

    private void figures(String model) {
        List<Outcome.Figure> figures = outcome.figures().get(model);
        List<Measure> measures = MarkdownReport.measures(figures);
        out.append(
                "<div class=\"wide\"><table><tr><th>path</th><th>quality</th><th>bytes</th><th>bpp</th><th>estimated</th>");
        for (Measure measure : measures) {
            out.append("<th title=\"")
                    .append(text(measure.meaning()))
                    .append("\">")
                    .append(text(measure.title() + (measure.share() ? ", %" : "")))
                    .append("</th>");
        }
        out.append("</tr>");
        for (Outcome.Figure figure : figures) {
            boolean rate = figure.bitsPerPixel() > 0;
            out.append("<tr><td>").append(text(figure.setting().path()));
            cell(rate ? MarkdownReport.number(figure.setting().quality()) : "");
            cell(rate ? String.format(Locale.ROOT, "%.0f", figure.bytes()) : "");
            cell(rate ? String.format(Locale.ROOT, "%.3f", figure.bitsPerPixel()) : "");
            cell(
                    Double.isNaN(figure.estimatedBitsPerPixel())
                            ? ""
                            : String.format(Locale.ROOT, "%.3f", figure.estimatedBitsPerPixel()));
            for (Measure measure : measures) {
                Share share = figure.values().get(measure);
                cell(MarkdownReport.text(measure, share));
            }
            out.append("</td></tr>");
        }
        out.append("</table></div><p class=\"small\">± is half of the 95 % interval (Wilson's for shares).</p>");
    }

    private void cell(String text) {
        out.append("</td><td>").append(text(text));
    }

    private void savings(String model) {
        List<Outcome.Saving> savings = outcome.savings(model);
        if (savings.isEmpty()) {
            return;
        }
        out.append(
                        "<h3>Bits at equal quality</h3><div class=\"wide\"><table><tr><th>measure</th><th>of</th><th>against</th><th>BD-rate</th>")
                .append(
                        "<th>95 %</th><th class=\"text\">saved at each quality of the latter</th><th class=\"text\">notes</th></tr>");
        for (Outcome.Saving saving : savings) {
            out.append("<tr><td>").append(text(saving.measure().title()));
            cell(saving.path());
            cell(saving.reference());
            cell(MarkdownReport.percent(saving.difference().percent()));
            cell(
                    Double.isNaN(saving.low())
                            ? ""
                            : MarkdownReport.percent(saving.low()) + " to " + MarkdownReport.percent(saving.high()));
            out.append("</td><td class=\"text\">").append(text(MarkdownReport.atQualities(saving.atQuality())));
            out.append("</td><td class=\"text\">")
                    .append(text(String.join("; ", saving.difference().warnings())))
                    .append("</td></tr>");
        }
        out.append("</table></div>");
    }

    private void layers(String model) {
        List<Outcome.Setting> settings = outcome.models().get(model).rows().keySet().stream()
                .filter(s -> s.path().equals(Evaluation.TOKENS) || s.path().equals(Evaluation.RECONSTRUCTION))
                .toList();
        if (outcome.options().full() || settings.isEmpty()) {
            return;
        }
        double middle = settings.get(settings.size() / 2).quality();
        out.append("<h3>Tokens by layer, quality ")
                .append(MarkdownReport.number(middle))
                .append(": cosine with the uncompressed photo's</h3><div class=\"grid\">");
        for (int which : new int[] {0, 2}) {
            List<Line> lines = new ArrayList<>();
            for (Outcome.Setting setting : settings) {
                if (setting.quality() != middle) {
                    continue;
                }
                double[][] layers = outcome.layers(model, setting);
                List<Curve.Point> points = new ArrayList<>();
                for (int k = 0; k < layers.length; k++) {
                    if (layers[k] != null) {
                        points.add(new Curve.Point(k, layers[k][which]));
                    }
                }
                lines.add(
                        new Line(outcome.models().size() > 1 ? model + ", " + setting.path() : setting.path(), points));
            }
            out.append("<figure><figcaption>")
                    .append(which == 0 ? "class token" : "patch tokens")
                    .append("</figcaption>")
                    .append(chart(lines, 1, Double.NaN, false))
                    .append("</figure>");
        }
        out.append("</div>");
    }

    private void complexity(String model) {
        Outcome.Measured measured = outcome.models().get(model);
        if (!measured.costs().isEmpty()) {
            out.append(
                            "<h3>What a picture costs</h3><div class=\"wide\"><table><tr><th>stage</th><th>parameters, M</th><th>kMAC/pixel</th>")
                    .append("<th>as published code does it</th><th>as this program does it</th></tr>");
            for (Complexity.Cost cost : measured.costs()) {
                out.append("<tr><td>").append(text(cost.stage()));
                cell(String.format(Locale.ROOT, "%.2f", cost.parameters() / 1e6));
                for (long macs : new long[] {cost.macs(), cost.published(), cost.executed()}) {
                    cell(String.format(Locale.ROOT, "%.2f", Complexity.Cost.perPixel(macs, measured.size())));
                }
                out.append("</td></tr>");
            }
            out.append("</table></div>");
            String comparison = Complexity.comparison(measured.costs(), measured.size());
            if (comparison != null) {
                line("%s", comparison);
            }
        }
        if (!measured.times().isEmpty()) {
            out.append(
                    "<h3>Time and memory in this run</h3><div class=\"wide\"><table><tr><th>stage</th><th>ms a picture</th></tr>");
            new java.util.TreeMap<>(measured.times()).forEach((stage, time) -> {
                out.append("<tr><td>").append(text(stage));
                cell(String.format(Locale.ROOT, "%.2f", time.nanos() / 1e6 / Math.max(time.pictures(), 1)));
                out.append("</td></tr>");
            });
            out.append("</table></div><p class=\"small\">Buffers of a run for one picture: ");
            List<String> parts = new ArrayList<>();
            new java.util.TreeMap<>(measured.bytes())
                    .forEach((kind, bytes) -> parts.add(String.format(Locale.ROOT, "%s %.1f MB", kind, bytes / 1e6)));
            out.append(text(String.join(", ", parts))).append(".</p>");
        }
    }

    // ---------------------------------------------------------------- examples

    private void examples(String model) {
        List<Outcome.Example> examples = outcome.models().get(model).examples();
        if (examples.isEmpty()) {
            return;
        }
        out.append(
                "<h3>Photos at three rates</h3><p class=\"small\">Below each reconstruction: cosine of every patch token from the bitstream with the "
                        + "uncompressed photo's, red 0 or less, yellow 0.5, blue 1.</p>");
        for (Outcome.Example example : examples) {
            out.append("<div class=\"shots\"><figure><img alt=\"\" src=\"")
                    .append(png(example.picture()))
                    .append("\"><span class=\"small\">")
                    .append(text(example.name()))
                    .append("</span></figure>");
            for (Outcome.Shot shot : example.shots()) {
                out.append("<figure><img alt=\"\" src=\"")
                        .append(png(shot.picture()))
                        .append("\">");
                if (shot.cosines() != null) {
                    out.append("<img alt=\"\" class=\"heat\" src=\"")
                            .append(png(heat(shot.cosines())))
                            .append("\">");
                }
                out.append("<span class=\"small\">")
                        .append(text(String.format(
                                Locale.ROOT, "%d bytes, %.3f bpp%s", shot.bytes(), shot.bitsPerPixel(), shot.names())))
                        .append("</span></figure>");
            }
            out.append("</div>");
        }
    }

    /** (rows, rows) cosines as a picture of as many pixels. */
    private static Photo heat(double[] cosines) {
        int side = (int) Math.round(Math.sqrt(cosines.length));
        byte[] rgb = new byte[3 * side * side];
        int[][] stops = {{185, 28, 28}, {253, 224, 71}, {30, 64, 175}};
        for (int i = 0; i < side * side; i++) {
            double t = 2 * Math.clamp(cosines[i], 0, 1);
            int[] a = stops[t < 1 ? 0 : 1];
            int[] b = stops[t < 1 ? 1 : 2];
            for (int c = 0; c < 3; c++) {
                rgb[3 * i + c] = (byte) Math.round(a[c] + (b[c] - a[c]) * (t < 1 ? t : t - 1));
            }
        }
        return Photo.of(side, side, rgb);
    }

    private static String png(Photo photo) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try {
            photo.writePng(bytes);
        } catch (IOException e) {
            throw new UncheckedIOException(e); // memory does not fail
        }
        return "data:image/png;base64," + Base64.getEncoder().encodeToString(bytes.toByteArray());
    }

    private void making(String command, String version) {
        out.append("<h2>How it was made</h2><p><code>").append(text(command)).append("</code></p>");
        line(
                "%s, %s, Java %s, seed %d. %d results were there, %d were measured.",
                version,
                outcome.backend(),
                Runtime.version().toString(),
                outcome.options().seed(),
                outcome.found(),
                outcome.measured());
        outcome.models()
                .forEach((name, model) -> out.append("<p>")
                        .append(text(name))
                        .append(": ")
                        .append(text(model.manifest().name() + ", " + model.file()))
                        .append(", sha256 <code>")
                        .append(model.hash())
                        .append("</code></p>"));
        outcome.options()
                .anchors()
                .forEach(a -> out.append("<p><code>").append(text(a.describe())).append("</code></p>"));
        if (!outcome.problems().isEmpty()) {
            out.append("<h3>Left out</h3><ul>");
            outcome.problems().forEach(p -> out.append("<li>").append(text(p)).append("</li>"));
            out.append("</ul>");
        }
    }

    private static String text(String plain) {
        return plain.replace("&", "&amp;")
                .replace("<", "&lt;")
                .replace(">", "&gt;")
                .replace("\"", "&quot;");
    }
}
