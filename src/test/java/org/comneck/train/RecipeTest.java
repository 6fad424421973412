package org.comneck.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.comneck.UsageException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RecipeTest {
    @TempDir
    Path folder;

    private static String complaint(String text) {
        return assertThrows(UsageException.class, () -> Recipe.parse("x", text).check())
                .getMessage();
    }

    @Test
    void aMistypedKeyIsAnErrorThatNamesTheNearest() {
        assertEquals(
                "recipe x: there is no key 'wamrup'; did you mean 'warmup'? (comneck train --keys lists them)",
                complaint("stage = codec\nwamrup = 3"));
        assertTrue(complaint("stage = codec\nweight.entropie = 1").contains("there is no key 'weight.entropie'"));
        assertTrue(complaint("stage = encoder\nweight.entropie = 1").contains("did you mean 'weight.entropy'?"));
        assertTrue(complaint("stage = codec\nencoder.width = 8").contains("'encoder.width' is no key of stage codec"));
        assertFalse(complaint("stage = codec\nquite.something.else = 1").contains("did you mean"));
    }

    @Test
    void aWrongValueIsAnErrorBeforeAnyTraining() {
        assertEquals("recipe x: 'batch' has '4.5', which is no whole number", complaint("stage = codec\nbatch = 4.5"));
        assertEquals("recipe x: 'rate' has 'fast', which is no number", complaint("stage = codec\nrate = fast"));
        assertEquals(
                "recipe x: 'codec.lambdas' has 'x', which is no number",
                complaint("codec.lambdas = 1 x\nstage = codec"));
        assertEquals(
                "recipe x: 'augment.flip' is true or false, not '1'", complaint("stage = codec\naugment.flip = 1"));
        assertEquals("recipe x: 'clip' has no value", complaint("stage = codec\nclip ="));
    }

    @Test
    void recipesThatComeWithComneckAreCompleteAndDescribed() {
        assertTrue(Recipe.builtIn().keySet().containsAll(List.of("tiny", "tiny-codec", "tiny-encoder", "tiny-neck")));
        Recipe.builtIn().forEach((name, line) -> {
            assertFalse(line.isBlank(), name + " begins with no comment");
            Recipe.load(name).check();
        });
        assertEquals(
                List.of("tiny-codec", "tiny-encoder", "tiny-encoder-coded", "tiny-neck"),
                Recipe.load("tiny").stages().stream().map(Recipe::name).toList());
        assertTrue(assertThrows(UsageException.class, () -> Recipe.load("no-such-recipe"))
                .getMessage()
                .contains("tiny-codec"));
    }

    @Test
    void theDocumentationQuotesTheTableOfKeys() throws IOException {
        List<String> quoted = Files.readAllLines(Path.of("docs", "training.md"));
        int head = quoted.indexOf("| key | stages | value | default | meaning |");
        assertTrue(head >= 0, "docs/training.md has no table of keys");
        List<String> rows = RecipeKey.all().stream().map(RecipeKey::row).toList();
        assertEquals(rows, quoted.subList(head + 2, head + 2 + rows.size()), "paste what comneck train --keys prints");
        assertEquals("", quoted.get(head + 2 + rows.size()));
    }

    @Test
    void settingsReachTheStagesThatKnowThem() {
        Recipe tiny = Recipe.load("tiny").with(List.of("seed=5", "codec.n = 8", "tiny-neck.batch=7", "name=other"));
        List<Recipe> stages = tiny.stages();
        assertEquals(
                List.of(5, 5, 5, 5),
                stages.stream().map(stage -> stage.integer("seed")).toList());
        assertEquals(8, stages.get(0).integer("codec.n"));
        assertFalse(stages.get(1).has("codec.n"));
        assertEquals(7, stages.getLast().integer("batch"));
        assertEquals(Recipe.load("tiny-codec").integer("batch"), stages.get(0).integer("batch"));
        assertEquals("other", tiny.word("name"));
        // What a checkpoint keeps has them too.
        assertEquals(5, Recipe.parse("again", stages.get(0).text()).integer("seed"));
        assertEquals(
                List.of("batch"),
                Recipe.load("tiny-neck").differences(Recipe.load("tiny-neck").with(List.of("batch=9"))));
        for (String wrong : List.of("sede=5", "tiny-codec.encoder.width=3", "seed", "=4")) {
            assertThrows(UsageException.class, () -> Recipe.load("tiny").with(List.of(wrong)), wrong);
        }
        assertTrue(assertThrows(UsageException.class, () -> Recipe.load("tiny").with(List.of("sede=5")))
                .getMessage()
                .contains("did you mean 'seed'?"));
    }

    @Test
    void aRecipeFileFindsItsStagesBesideIt() throws IOException {
        Files.writeString(folder.resolve("all.properties"), "# both\nstages = one tiny-neck\n");
        Files.writeString(folder.resolve("one.properties"), "stage = codec\nbatch = 3\n");
        Recipe all = Recipe.load(folder.resolve("all.properties").toString());
        assertEquals(3, all.stages().getFirst().integer("batch"));
        assertEquals("neck", all.stages().get(1).word("stage"));
    }
}
