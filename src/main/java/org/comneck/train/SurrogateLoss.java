package org.comneck.train;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Scalar;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;

/**
 * The surrogate loss: what a frozen encoder makes of a neck's tokens, against labels and against what it makes of the uncompressed photo. It
 * stands for any model that reads the encoder's tokens later. Every term is a value for each photo, (B):
 *
 * <ul>
 *   <li>{@code entropy}: cross-entropy of the true label, logits being {@value #LOGIT_SCALE} times the cosines of the projected class token
 *       with the label embeddings; 0 for photos without label (published);
 *   <li>{@code class}: mean squared error of the projected class token (published);
 *   <li>{@code class.relative}: the same as a part of how much the photos of the batch differ in it;
 *   <li>{@code soft}: cross-entropy with the encoder's own label probabilities of the uncompressed photo;
 *   <li>{@code tokens}: squared error of the patch tokens at a chosen layer, relative to how much tokens differ there;
 *   <li>{@code last}: the same of all tokens at the last layer;
 *   <li>{@code entry}: the same at the block where the neck's tokens enter. Alone, it needs no gradient through the encoder.
 * </ul>
 */
final class SurrogateLoss {
    /** Cosines are multiplied by this before softmax: CLIP's temperature of 0.01. */
    static final double LOGIT_SCALE = 100;

    /** Terms by name, in the order of metrics. */
    static final List<String> TERMS = List.of("entry", "tokens", "last", "class", "class.relative", "soft", "entropy");

    private static final Set<String> OF_THE_LAST = Set.of("last", "class", "class.relative", "soft", "entropy");

    private final FrozenEncoder encoder;
    private final Tensor texts;
    private final int entry;
    private final int tokenLayer;
    private final int postNorms;

    /**
     * @param texts unit label embeddings (K,E); null where labels are those of the encoder's own head, or where there are none
     * @param entry block that the neck's tokens enter
     * @param tokenLayer number of blocks before the patch tokens are compared
     * @param postNorms how often the final norm is applied before the projection; the published code does it twice
     */
    SurrogateLoss(FrozenEncoder encoder, Tensor texts, int entry, int tokenLayer, int postNorms) {
        this.encoder = encoder;
        this.texts = texts;
        this.entry = entry;
        this.tokenLayer = tokenLayer;
        this.postNorms = postNorms;
    }

    /**
     * Encoder states.
     *
     * @param states from the input of block {@code entry} on, (B,1+n,D)
     * @param projected class token (B,E), null where the last block was not run
     * @param patches tokens at the chosen layer without class token (B,n,D), null where that was not reached
     */
    record Seen(Tensor[] states, Tensor projected, Tensor patches) {}

    /** How many blocks have to run for these terms. */
    private int end(Set<String> terms) {
        if (terms.stream().anyMatch(OF_THE_LAST::contains)) {
            return encoder.layers();
        }
        return terms.contains("tokens") ? tokenLayer : entry;
    }

    /** What the terms need of the uncompressed photo; call it without gradients. */
    Seen uncompressed(Tensor pixels, int grid, Set<String> terms) {
        Tensor[] all = encoder.states(encoder.embed(pixels, grid), 0, Math.max(entry, end(terms)));
        return seen(java.util.Arrays.copyOfRange(all, entry, all.length));
    }

    /** What the encoder makes of a neck's tokens. */
    Seen compressed(Tensor tokens, Set<String> terms) {
        return seen(encoder.states(tokens, entry, end(terms)));
    }

    Seen seen(Tensor[] states) {
        int end = entry + states.length - 1;
        Tensor projected = end == encoder.layers() ? encoder.project(states[states.length - 1], postNorms) : null;
        Tensor patches = null;
        if (end >= tokenLayer) {
            Tensor chosen = states[tokenLayer - entry];
            patches = chosen.narrow(1, 1, chosen.size(1) - 1);
        }
        return new Seen(states, projected, patches);
    }

    /** A loss of what was seen. */
    @FunctionalInterface
    interface Weighted {
        /** One number. */
        Tensor of(Seen seen);
    }

    /**
     * The loss of {@link #compressed} tokens with less memory and more work: states are kept without what their gradients need, and each
     * block runs again when its gradient is made.
     *
     * @return the loss, with gradients to the tokens
     */
    Tensor recomputed(Tensor tokens, Set<String> terms, Weighted loss) {
        Tensor[] states;
        NoGradGuard guard = new NoGradGuard();
        try {
            states = encoder.states(tokens.detach(), entry, end(terms));
        } finally {
            guard.close();
        }
        for (int i = 0; i < states.length; i++) {
            states[i] = states[i].detach().set_requires_grad(true);
        }
        Tensor value = loss.of(seen(states));
        value.backward();
        for (int i = states.length - 1; i > 0; i--) {
            if (states[i].grad().defined()) {
                // Adds to the gradient that the loss itself has of the block's input.
                encoder.block(entry + i - 1, states[i - 1])
                        .mul(states[i].grad())
                        .sum()
                        .backward();
            }
        }
        Tensor gradient = states[0].grad();
        return Ops.straightThrough(tokens.mul(gradient).sum(), value.detach());
    }

    /** Logits (B,K) of projected class tokens. */
    Tensor logits(Tensor projected) {
        return texts == null ? encoder.head(projected) : cosineLogits(projected, texts);
    }

    /**
     * The terms that are asked for.
     *
     * @param labels I64 (B), -1 where unknown
     */
    Map<String, Tensor> terms(Seen actual, Seen wanted, Tensor labels, Set<String> terms) {
        Map<String, Tensor> out = new LinkedHashMap<>();
        int last = actual.states.length - 1;
        for (String term : TERMS) {
            if (terms.contains(term)) {
                out.put(
                        term,
                        switch (term) {
                            case "entry" -> relative(actual.states[0], wanted.states[0]);
                            case "tokens" -> relative(actual.patches, wanted.patches);
                            case "last" -> relative(actual.states[last], wanted.states[last]);
                            case "class" -> squared(actual.projected, wanted.projected);
                            case "class.relative" -> relativeClass(actual.projected, wanted.projected);
                            case "soft" -> softEntropy(logits(actual.projected), logits(wanted.projected));
                            default -> entropy(logits(actual.projected), labels);
                        });
            }
        }
        return out;
    }

    /** {@value #LOGIT_SCALE} times the cosines of class tokens (B,E) with unit embeddings (K,E). */
    static Tensor cosineLogits(Tensor projected, Tensor texts) {
        return Ops.scaled(Ops.unit(projected).matmul(texts.transpose(0, 1)), LOGIT_SCALE);
    }

    /** Cross-entropy in nats of logits (B,K) with labels I64 (B); 0 where the label is negative. */
    static Tensor entropy(Tensor logits, Tensor labels) {
        Tensor known = labels.ge(Ops.scalar(0)).to(logits.scalar_type());
        Tensor row = labels.clamp_min(new Scalar(0L)).unsqueeze(1);
        return torch.log_softmax(logits, 1).gather(1, row).squeeze(1).neg().mul(known);
    }

    /** Cross-entropy in nats of logits (B,K) with the probabilities of other logits. */
    static Tensor softEntropy(Tensor logits, Tensor wanted) {
        return Ops.sumOver(torch.softmax(wanted, 1).mul(torch.log_softmax(logits, 1)), false, 1)
                .neg();
    }

    /** Mean squared error of each row of (B,E). */
    static Tensor squared(Tensor actual, Tensor wanted) {
        return Ops.meanOver(actual.sub(wanted).square(), false, 1);
    }

    /** {@link #squared} over the variance among rows, and a twentieth of their mean square where a batch is one row or all are alike. */
    static Tensor relativeClass(Tensor actual, Tensor wanted) {
        Tensor spread = Ops.mse(Ops.meanOver(wanted, true, 0), wanted)
                .add(Ops.scaled(wanted.square().mean(), 0.05));
        return squared(actual, wanted).div(spread);
    }

    /** Mean squared error of each photo's tokens (B,T,D), over the variance among all tokens. */
    static Tensor relative(Tensor actual, Tensor wanted) {
        Tensor spread = Ops.mse(Ops.meanOver(wanted, true, 0, 1), wanted);
        return Ops.meanOver(actual.sub(wanted).square(), false, 1, 2).div(spread);
    }
}
