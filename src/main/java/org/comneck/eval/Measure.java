package org.comneck.eval;

/** What a path is judged by. More is better, always. */
public enum Measure {
    TOP1("top-1", "the likeliest class is the photo's label", true),
    TOP5("top-5", "the label is among the five likeliest classes", true),
    AGREE1("same name", "the likeliest class is that of the uncompressed photo", true),
    AGREE5("same five", "share of the uncompressed photo's five likeliest classes among the path's", true),
    CENTROID("centroid", "the nearest class centroid of the gallery is the photo's class", true),
    NEAREST("5 nearest", "the vote of the five nearest tokens of the gallery is the photo's class", true),
    SHOT1("5-way 1-shot", "episodes of five classes with one example of each, by nearest class token", true),
    SHOT5("5-way 5-shot", "the same with five examples", true),
    CLASS_COSINE("class token", "cosine of the last layer's class token with the uncompressed photo's", false),
    PATCH_COSINE(
            "patch tokens", "mean cosine of the patch tokens that users take, with the uncompressed photo's", false),
    PSNR("PSNR", "of 8-bit RGB in dB, mean over photos", false),
    MS_SSIM("MS-SSIM", "of RGB, mean over photos", false);

    private final String title;
    private final String meaning;
    private final boolean share;

    Measure(String title, String meaning, boolean share) {
        this.title = title;
        this.meaning = meaning;
        this.share = share;
    }

    /** For tables. */
    public String title() {
        return title;
    }

    /** For people who read the table. */
    public String meaning() {
        return meaning;
    }

    /** Whether it is a share, shown in per cent. */
    public boolean share() {
        return share;
    }

    /** Whether it is of pictures rather than of tokens. */
    public boolean ofPictures() {
        return this == PSNR || this == MS_SSIM;
    }
}
