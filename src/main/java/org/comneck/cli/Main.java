package org.comneck.cli;

/** Entry point of the command line. */
public final class Main {
    private Main() {}

    /** Runs one verb and exits with its status. */
    public static void main(String[] arguments) {
        System.out.println("comneck " + Main.class.getPackage().getImplementationVersion());
    }
}
