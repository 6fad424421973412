/** The command line: {@code comneck <verb> [options] in out}. The only place that prints. */
package org.comneck.cli;
