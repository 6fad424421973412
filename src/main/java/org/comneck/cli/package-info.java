/**
 * The command line: {@code comneck <verb> [options] in -o out}. The only place that prints.
 *
 * <p>{@link org.comneck.cli.Main} turns every failure into one line and one of the statuses of {@link org.comneck.cli.ExitStatus};
 * a verb is one class; {@link org.comneck.cli.Inputs} and {@link org.comneck.cli.EngineFlags} are what verbs share.
 */
package org.comneck.cli;
