package org.comneck.engine;

/**
 * One class of a picture.
 *
 * @param synset the label's id
 * @param name for people
 * @param score cosine of picture and label where the model has label embeddings, probability where it has a classification head
 */
public record Classification(String synset, String name, double score) {}
