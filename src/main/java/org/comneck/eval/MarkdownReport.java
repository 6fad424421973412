package org.comneck.eval;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.comneck.eval.Neighbours.Share;

/** The figures as Markdown tables: what the command prints and docs/evaluation.md holds. */
public final class MarkdownReport {
    /** Rates at which pictures and tokens are compared. */
    static final double[] RATES = {0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8};

    private MarkdownReport() {}

    /** All tables of a run. */
    public static String of(Outcome outcome) {
        StringBuilder out = new StringBuilder();
        outcome.figures().forEach((model, figures) -> {
            Outcome.Measured measured = outcome.models().get(model);
            out.append(String.format(
                    Locale.ROOT,
                    "**%s** (%s, %s, sha256 %s), %d photos%n%n",
                    model,
                    measured.manifest().name(),
                    measured.file().equals("embedded") ? "comes with the program" : "from a file",
                    measured.hash().substring(0, 12),
                    measured.photos().size()));
            out.append(figures(figures)).append('\n');
            out.append(atRates(outcome, model));
            out.append(savings(outcome.savings(model)));
            out.append(costs(measured));
        });
        return out.toString();
    }

    private static String figures(List<Outcome.Figure> figures) {
        List<Measure> measures = measures(figures);
        StringBuilder out = new StringBuilder("| path | quality | bytes | bpp | estimated |");
        measures.forEach(m -> out.append(' ').append(m.title()).append(" |"));
        out.append("\n| --- | --- | --- | --- | --- |")
                .append(" --- |".repeat(measures.size()))
                .append('\n');
        for (Outcome.Figure figure : figures) {
            boolean rate = figure.bitsPerPixel() > 0;
            out.append(String.format(
                    Locale.ROOT,
                    "| %s | %s | %s | %s | %s |",
                    figure.setting().path(),
                    rate ? number(figure.setting().quality()) : "",
                    rate ? String.format(Locale.ROOT, "%.0f", figure.bytes()) : "",
                    rate ? String.format(Locale.ROOT, "%.3f", figure.bitsPerPixel()) : "",
                    Double.isNaN(figure.estimatedBitsPerPixel())
                            ? ""
                            : String.format(Locale.ROOT, "%.3f", figure.estimatedBitsPerPixel())));
            for (Measure measure : measures) {
                out.append(' ')
                        .append(text(measure, figure.values().get(measure)))
                        .append(" |");
            }
            out.append('\n');
        }
        return out.toString();
    }

    static List<Measure> measures(List<Outcome.Figure> figures) {
        List<Measure> out = new ArrayList<>();
        for (Measure measure : Measure.values()) {
            if (figures.stream().anyMatch(f -> f.values().containsKey(measure))) {
                out.add(measure);
            }
        }
        return out;
    }

    /** {@code 41.5 ±4.1 %}; without uncertainty for means over photos of picture measures. */
    static String text(Measure measure, Share share) {
        if (share == null) {
            return "";
        }
        if (measure.share()) {
            return String.format(Locale.ROOT, "%.1f ±%.1f", 100 * share.value(), 50 * (share.high() - share.low()));
        }
        return String.format(Locale.ROOT, measure == Measure.PSNR ? "%.2f" : "%.4f", share.value());
    }

    /** What each path has at the same rates, in its curve's log-linear interpolation; and how far below the uncompressed photo that is. */
    private static String atRates(Outcome outcome, String model) {
        StringBuilder out = new StringBuilder();
        List<Measure> shown = new ArrayList<>();
        for (Measure measure : List.of(Measure.TOP1, Measure.TOP5, Measure.AGREE1, Measure.CENTROID, Measure.PSNR)) {
            if (outcome.paths(model).stream()
                    .anyMatch(p -> outcome.curve(model, p, measure).points().size() > 1)) {
                shown.add(measure);
            }
        }
        for (Measure measure : shown) {
            out.append("| ")
                    .append(measure.title())
                    .append(measure.share() ? ", %" : "")
                    .append(" at bpp |");
            for (double rate : RATES) {
                out.append(' ').append(number(rate)).append(" |");
            }
            out.append("\n| --- |").append(" --- |".repeat(RATES.length)).append('\n');
            Outcome.Figure raw = outcome.figure(model, Evaluation.UNCOMPRESSED, 0);
            for (String path : outcome.paths(model)) {
                Curve curve = outcome.curve(model, path, measure);
                if (curve.points().size() < 2) {
                    continue;
                }
                out.append("| ").append(path).append(" |");
                for (double rate : RATES) {
                    double value = curve.valueAt(rate);
                    String text = Double.isNaN(value)
                            ? ""
                            : String.format(Locale.ROOT, "%.2f", measure.share() ? 100 * value : value);
                    if (!text.isEmpty()
                            && measure.share()
                            && raw != null
                            && raw.values().containsKey(measure)) {
                        text += String.format(
                                Locale.ROOT,
                                " (%+.1f)",
                                100 * (value - raw.values().get(measure).value()));
                    }
                    out.append(' ').append(text).append(" |");
                }
                out.append('\n');
            }
            out.append('\n');
        }
        return out.toString();
    }

    private static String costs(Outcome.Measured measured) {
        StringBuilder out = new StringBuilder(
                "| cost of a stage | parameters, M | kMAC/pixel | as published code does it | as this program does it |\n"
                        + "| --- | --- | --- | --- | --- |\n");
        for (Complexity.Cost cost : measured.costs()) {
            out.append(String.format(
                    Locale.ROOT,
                    "| %s | %.2f | %.2f | %.2f | %.2f |%n",
                    cost.stage(),
                    cost.parameters() / 1e6,
                    Complexity.Cost.perPixel(cost.macs(), measured.size()),
                    Complexity.Cost.perPixel(cost.published(), measured.size()),
                    Complexity.Cost.perPixel(cost.executed(), measured.size())));
        }
        String comparison = Complexity.comparison(measured.costs(), measured.size());
        return out.append('\n')
                .append(comparison == null ? "" : comparison + "\n\n")
                .toString();
    }

    private static String savings(List<Outcome.Saving> savings) {
        if (savings.isEmpty()) {
            return "";
        }
        StringBuilder out = new StringBuilder(
                "| bits at equal ... | of | against | BD-rate | 95 % | saved at the quality of the latter | notes |\n"
                        + "| --- | --- | --- | --- | --- | --- | --- |\n");
        for (Outcome.Saving saving : savings) {
            if (!saving.reference().endsWith(Evaluation.RECONSTRUCTION)
                    && saving.measure() != Measure.TOP1
                    && saving.measure() != Measure.AGREE5
                    && saving.measure() != Measure.PSNR) {
                continue; // the JSON file has them all
            }
            out.append(String.format(
                    Locale.ROOT,
                    "| %s | %s | %s | %s | %s | %s | %s |%n",
                    saving.measure().title(),
                    saving.path(),
                    saving.reference(),
                    percent(saving.difference().percent()),
                    Double.isNaN(saving.low()) ? "" : percent(saving.low()) + " to " + percent(saving.high()),
                    atQualities(saving.atQuality()),
                    String.join("; ", saving.difference().warnings())));
        }
        return out.append('\n').toString();
    }

    static String atQualities(Map<Double, Double> saved) {
        List<String> parts = new ArrayList<>();
        saved.forEach((quality, part) -> {
            if (!Double.isNaN(part)) {
                parts.add(String.format(Locale.ROOT, "%s: %.0f %%", number(quality), 100 * part));
            }
        });
        return parts.isEmpty() ? "not reached" : String.join(", ", parts);
    }

    static String percent(double value) {
        return Double.isNaN(value) ? "none" : String.format(Locale.ROOT, "%+.1f %%", value);
    }

    static String number(double value) {
        return value == Math.rint(value) ? String.valueOf((long) value) : String.valueOf(value);
    }
}
