package org.comneck.train;

import com.fasterxml.jackson.databind.JsonNode;
import java.awt.BasicStroke;
import java.awt.Color;
import java.awt.Font;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import javax.imageio.ImageIO;
import org.comneck.engine.AtomicOutput;
import org.knowm.xchart.XYChart;
import org.knowm.xchart.XYChartBuilder;
import org.knowm.xchart.XYSeries;
import org.knowm.xchart.style.Styler;
import org.knowm.xchart.style.markers.SeriesMarkers;

/**
 * Metrics as pictures, one PNG for each group: {@code loss.png}, a panel for each loss term; {@code rate.png}, learning rate, gradient and
 * speed; {@code evaluation.png}, a panel for each kind of figure, with a line for each quality or source.
 */
final class Curves {
    private static final int PANEL_WIDTH = 480;
    private static final int PANEL_HEIGHT = 300;
    private static final int TITLE_HEIGHT = 44;
    private static final int MOST_POINTS = 600;
    private static final Set<String> HIDDEN = Set.of("kind", "step", "seconds", "photos");
    private static final Set<String> PACE = Set.of("rate", "gradient", "photos_per_second");
    private static final Color[] COLOURS = {
        new Color(0x1F77B4),
        new Color(0xD9661F),
        new Color(0x2E8B57),
        new Color(0xB03A48),
        new Color(0x7A5BA6),
        new Color(0x7F6A5B),
        new Color(0xC86BA8),
        new Color(0x5F6B73)
    };

    /** A line of a panel: values over steps. */
    private record Line(List<Double> steps, List<Double> values) {
        Line() {
            this(new ArrayList<>(), new ArrayList<>());
        }

        /** Neighbours averaged, so that at most {@link #MOST_POINTS} are left. */
        Line thinned() {
            int each = Math.ceilDiv(steps.size(), MOST_POINTS);
            if (each <= 1) {
                return this;
            }
            Line thin = new Line();
            for (int i = 0; i < steps.size(); i += each) {
                int end = Math.min(steps.size(), i + each);
                thin.steps.add(steps.get(end - 1));
                thin.values.add(values.subList(i, end).stream()
                        .mapToDouble(Double::doubleValue)
                        .average()
                        .orElseThrow());
            }
            return thin;
        }
    }

    private Curves() {}

    /**
     * Draws what there is to draw; files are replaced whole.
     *
     * @return the files
     */
    static List<Path> draw(String stage, List<JsonNode> metrics, Path folder) {
        Map<String, Map<String, Line>> loss = new LinkedHashMap<>();
        Map<String, Map<String, Line>> pace = new LinkedHashMap<>();
        Map<String, Map<String, Line>> figures = new TreeMap<>();
        for (JsonNode line : metrics) {
            boolean step = line.path("kind").asText().equals("step");
            line.properties().forEach(field -> {
                String name = field.getKey();
                if (HIDDEN.contains(name) || !field.getValue().isNumber()) {
                    return;
                }
                if (step) {
                    (PACE.contains(name) ? pace : loss)
                            .computeIfAbsent(name, _ -> new LinkedHashMap<>())
                            .computeIfAbsent(name, _ -> new Line());
                    add((PACE.contains(name) ? pace : loss).get(name).get(name), line, field.getValue());
                } else if (!PACE.contains(name)) {
                    add(
                            figures.computeIfAbsent(family(name), _ -> new TreeMap<>())
                                    .computeIfAbsent(name, _ -> new Line()),
                            line,
                            field.getValue());
                }
            });
        }
        List<Path> files = new ArrayList<>();
        write(stage + ": loss terms, smoothed", loss, folder.resolve("loss.png"), files);
        write(stage + ": pace", pace, folder.resolve("rate.png"), files);
        write(stage + ": photos that are not trained on", figures, folder.resolve("evaluation.png"), files);
        return files;
    }

    private static void add(Line line, JsonNode at, JsonNode value) {
        line.steps.add(at.path("step").asDouble());
        line.values.add(value.asDouble());
    }

    /** {@code psnr} of {@code whole.psnr.3}, {@code top} of {@code teacher.top5}: figures of a family share a panel. */
    private static String family(String name) {
        String[] parts = name.split("\\.");
        int last = parts.length - 1;
        while (last > 0 && parts[last].matches("\\d+")) {
            last--;
        }
        return parts[last].replaceAll("\\d+$", "");
    }

    private static void write(String title, Map<String, Map<String, Line>> panels, Path file, List<Path> files) {
        if (panels.isEmpty()) {
            return;
        }
        int columns = Math.min(3, panels.size());
        int rows = Math.ceilDiv(panels.size(), columns);
        BufferedImage image = new BufferedImage(
                columns * PANEL_WIDTH, TITLE_HEIGHT + rows * PANEL_HEIGHT, BufferedImage.TYPE_INT_RGB);
        Graphics2D graphics = image.createGraphics();
        graphics.setColor(Color.WHITE);
        graphics.fillRect(0, 0, image.getWidth(), image.getHeight());
        graphics.setRenderingHint(RenderingHints.KEY_TEXT_ANTIALIASING, RenderingHints.VALUE_TEXT_ANTIALIAS_ON);
        graphics.setColor(Color.DARK_GRAY);
        graphics.setFont(new Font(Font.SANS_SERIF, Font.BOLD, 18));
        graphics.drawString(title, 16, 29);
        double end = panels.values().stream()
                .flatMap(lines -> lines.values().stream())
                .mapToDouble(line -> line.steps.getLast())
                .max()
                .orElse(1);
        int at = 0;
        for (Map.Entry<String, Map<String, Line>> panel : panels.entrySet()) {
            XYChart chart = chart(panel.getKey(), panel.getValue(), Math.max(1, end));
            Graphics2D place = (Graphics2D) graphics.create(
                    at % columns * PANEL_WIDTH, TITLE_HEIGHT + at / columns * PANEL_HEIGHT, PANEL_WIDTH, PANEL_HEIGHT);
            chart.paint(place, PANEL_WIDTH, PANEL_HEIGHT);
            place.dispose();
            at++;
        }
        graphics.dispose();
        AtomicOutput.write(file, out -> ImageIO.write(image, "png", out));
        files.add(file);
    }

    private static XYChart chart(String title, Map<String, Line> lines, double end) {
        XYChart chart = new XYChartBuilder()
                .width(PANEL_WIDTH)
                .height(PANEL_HEIGHT)
                .title(title.replace('_', ' '))
                .build();
        chart.getStyler().setChartBackgroundColor(Color.WHITE);
        chart.getStyler().setChartTitleBoxVisible(false);
        chart.getStyler().setChartTitleFont(new Font(Font.SANS_SERIF, Font.PLAIN, 15));
        chart.getStyler().setLegendVisible(lines.size() > 1);
        chart.getStyler().setLegendPosition(Styler.LegendPosition.OutsideE);
        chart.getStyler().setLegendBorderColor(Color.WHITE);
        chart.getStyler().setLegendFont(new Font(Font.SANS_SERIF, Font.PLAIN, 12));
        chart.getStyler().setChartPadding(8);
        chart.getStyler().setPlotGridVerticalLinesVisible(false);
        chart.getStyler().setPlotGridLinesColor(new Color(0xDDDDDD));
        chart.getStyler().setPlotBorderVisible(false);
        chart.getStyler().setAxisTicksLineVisible(false);
        chart.getStyler().setAxisTickLabelsFont(new Font(Font.SANS_SERIF, Font.PLAIN, 12));
        chart.getStyler().setXAxisMin(0.0);
        chart.getStyler().setXAxisMax(end);
        chart.getStyler().setXAxisTickMarkSpacingHint(90);
        boolean tiny =
                lines.values().stream().flatMap(line -> line.values.stream()).allMatch(value -> Math.abs(value) < 0.01);
        chart.getStyler().setXAxisDecimalPattern("#,###");
        chart.getStyler().setYAxisDecimalPattern(tiny ? "0.0E0" : "#,##0.###");
        int colour = 0;
        for (Map.Entry<String, Line> entry : lines.entrySet()) {
            Line line = entry.getValue().thinned();
            XYSeries series = chart.addSeries(entry.getKey(), line.steps, line.values);
            series.setLineColor(COLOURS[colour % COLOURS.length]);
            series.setLineStyle(new BasicStroke(1.6f));
            series.setMarkerColor(COLOURS[colour % COLOURS.length]);
            series.setMarker(line.steps.size() <= 40 ? SeriesMarkers.CIRCLE : SeriesMarkers.NONE);
            colour++;
        }
        chart.getStyler().setMarkerSize(5);
        return chart;
    }
}
