package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.comneck.UsageException;
import org.comneck.model.Manifest;
import org.junit.jupiter.api.Test;

class ScheduleTest {
    private static final Set<String> KNOWN = Set.of("entropy", "class", "class.relative");

    private static Schedule of(String schedule) {
        return Schedule.of(Recipe.parse("x", "schedule = " + schedule), KNOWN);
    }

    @Test
    void phasesByFractionOfTheBudget() {
        Schedule schedule = of("until 1/3: 100 entropy; until 0.7: entropy + 1e2 class; until 1: 0.5 class.relative");
        assertEquals(Map.of("entropy", 100.0), schedule.at(0.33).weights());
        assertEquals(Map.of("entropy", 1.0, "class", 100.0), schedule.at(0.34).weights());
        assertEquals(Map.of("class.relative", 0.5), schedule.at(0.7).weights());
        assertEquals(Map.of("class.relative", 0.5), schedule.at(1).weights());
    }

    @Test
    void withoutLabelsTheDistillationTermsAlone() {
        Schedule schedule = of("until 1/3: 100 entropy; until 2/3: entropy + 10 class; until 1: 100 class")
                .without("entropy");
        assertEquals(Map.of("class", 10.0), schedule.at(0).weights());
        assertEquals(Map.of("class", 10.0), schedule.at(0.5).weights());
        assertEquals(Map.of("class", 100.0), schedule.at(0.9).weights());
        assertEquals(
                Map.of("class", 1.0),
                of("until 0.5: class; until 1: entropy")
                        .without("entropy")
                        .at(1)
                        .weights());
        assertThrows(UsageException.class, () -> of("until 1: entropy").without("entropy"));
    }

    @Test
    void mistakesAreNamed() {
        for (String wrong : List.of(
                "100 entropy",
                "until 1: 100 nothing",
                "until 0.5: class",
                "until 0.5: class; until 0.4: class; until 1: class",
                "until 2: class",
                "until 1/2/3: class; until 1: class",
                "until 1: 1.2.3 class")) {
            assertThrows(UsageException.class, () -> of(wrong), wrong);
        }
    }

    @Test
    void labelsComeFromFilesAndFolders() {
        PhotoLabels labels = new PhotoLabels(List.of(
                new Manifest.Label("n01", "tench, Tinca tinca"),
                new Manifest.Label("n02", "crane"),
                new Manifest.Label("n03", "grand piano, grand"),
                new Manifest.Label("n04", "crane")));
        assertEquals(0, labels.row(Path.of("x/n01_tench.jpg")));
        assertEquals(2, labels.row(Path.of("Grand_Piano/1.jpg")));
        assertEquals(3, labels.row(Path.of("n04/1.jpg")));
        assertEquals(PhotoLabels.UNKNOWN, labels.row(Path.of("crane/1.jpg")), "two labels have that name");
        assertEquals(PhotoLabels.UNKNOWN, labels.row(Path.of("piano/1.jpg")));
    }
}
