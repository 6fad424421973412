package org.comneck.eval;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.comneck.eval.Neighbours.Share;
import org.comneck.eval.Neighbours.Token;
import org.junit.jupiter.api.Test;

/** Against what can be counted by hand. */
class NeighboursTest {
    private static Token token(String photo, String label, float... vector) {
        return new Token(photo, label, vector);
    }

    @Test
    void wilsonsInterval() {
        Share share = Share.of(7, 20); // 0.35: R's prop.test without continuity correction says 0.1812 to 0.5671
        assertEquals(0.35, share.value(), 1e-12);
        assertEquals(0.1812, share.low(), 5e-5);
        assertEquals(0.5671, share.high(), 5e-5);
        assertEquals(0, Share.of(0, 10).low());
        assertEquals(0.2775, Share.of(0, 10).high(), 5e-5);
    }

    @Test
    void nearestCentroidByAngle() {
        List<Token> gallery =
                List.of(token("a", "x", 1, 0), token("b", "x", 10, 1), token("c", "y", 0, 1), token("d", "y", 0.1f, 5));
        List<Token> queries = List.of(
                token("q1", "x", 3, 1), // nearer to x
                token("q2", "y", 3, 1), // nearer to x: wrong
                token("q3", "y", 0.2f, 0.9f),
                token("q4", "z", 1, 1)); // no such class in the gallery: not counted
        assertEquals(Share.of(2, 3), Neighbours.nearestCentroid(gallery, queries));
    }

    @Test
    void aPhotoIsNotItsOwnNeighbour() {
        List<Token> tokens = List.of(
                token("a", "x", 1, 0), token("b", "x", 0, 1), token("c", "y", 0.9f, 0.1f), token("d", "y", 0.1f, 0.9f));
        // each one's nearest other is of the other class
        assertEquals(Share.of(0, 4), Neighbours.nearest(tokens, tokens, 1));
        // without a, class x has its centroid at b: a is nearer to y's (1,1)
        assertEquals(0, Neighbours.nearestCentroid(tokens, tokens).value());
        // the only one of its class has nothing to be found by
        List<Token> alone = List.of(token("a", "x", 1, 0), token("b", "x", 1, 0.1f), token("c", "y", 0, 1));
        assertEquals(Share.of(2, 2), Neighbours.nearestCentroid(alone, alone));
    }

    @Test
    void theVoteOfTheNearestWithTiesToTheNearest() {
        List<Token> gallery = List.of(
                token("a", "x", 1, 0), token("b", "y", 1, 0.1f), token("c", "y", 1, 0.2f), token("d", "x", 0, 1));
        List<Token> query = List.of(token("q", "x", 1, -0.1f));
        assertEquals(1, Neighbours.nearest(gallery, query, 1).value());
        assertEquals(1, Neighbours.nearest(gallery, query, 2).value()); // a tie
        assertEquals(0, Neighbours.nearest(gallery, query, 3).value());
    }

    @Test
    void episodes() {
        Random random = new Random(3);
        List<Token> apart = new ArrayList<>();
        List<Token> noise = new ArrayList<>();
        for (int label = 0; label < 8; label++) {
            for (int i = 0; i < 12; i++) {
                float[] vector = new float[8];
                float[] chance = new float[8];
                for (int k = 0; k < 8; k++) {
                    vector[k] = (k == label ? 4 : 0) + (float) random.nextGaussian() * 0.3f;
                    chance[k] = (float) random.nextGaussian();
                }
                apart.add(token(label + "." + i, "c" + label, vector));
                noise.add(token(label + "." + i, "c" + label, chance));
            }
        }
        assertEquals(1, Neighbours.episodes(apart, apart, 5, 1, 100, 1).value());
        Share chance = Neighbours.episodes(noise, noise, 5, 5, 400, 1);
        assertEquals(0.2, chance.value(), 0.05); // one in five; the same few photos come again and again
        assertEquals(chance, Neighbours.episodes(noise, noise, 5, 5, 400, 1));
        assertNotEquals(chance, Neighbours.episodes(noise, noise, 5, 5, 400, 2));
        assertEquals(
                0, Neighbours.episodes(noise.subList(0, 48), noise, 5, 1, 10, 1).count()); // four classes only
    }
}
