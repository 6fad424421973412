package org.comneck.server;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.LoggerContext;
import ch.qos.logback.classic.encoder.JsonEncoder;
import ch.qos.logback.classic.encoder.PatternLayoutEncoder;
import ch.qos.logback.classic.spi.Configurator;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.ConsoleAppender;
import ch.qos.logback.core.encoder.Encoder;
import ch.qos.logback.core.spi.ContextAwareBase;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Logs to standard error, without a configuration file: reading one would cost a tenth of a second of every start. Warnings only, until
 * {@link #configure} says otherwise.
 */
public final class LogConfigurator extends ContextAwareBase implements Configurator {
    /** How log lines look. */
    public enum Format {
        /** For people. */
        TEXT,
        /** One JSON object a line. */
        JSON
    }

    @Override
    public ExecutionStatus configure(LoggerContext context) {
        apply(context, Format.TEXT, Level.toLevel(System.getProperty("comneck.log"), Level.WARN));
        return ExecutionStatus.DO_NOT_INVOKE_NEXT_IF_ANY;
    }

    /**
     * Sets the format and the level of this process's log.
     *
     * @param level {@code error}, {@code warn}, {@code info} or {@code debug}
     */
    public static void configure(Format format, String level) {
        apply((LoggerContext) LoggerFactory.getILoggerFactory(), format, Level.toLevel(level, Level.INFO));
    }

    private static void apply(LoggerContext context, Format format, Level level) {
        context.reset();
        Encoder<ILoggingEvent> encoder;
        if (format == Format.JSON) {
            JsonEncoder json = new JsonEncoder();
            json.setWithSequenceNumber(false);
            json.setWithNanoseconds(false);
            json.setWithContext(false);
            json.setWithMessage(false);
            json.setWithFormattedMessage(true);
            encoder = json;
        } else {
            PatternLayoutEncoder text = new PatternLayoutEncoder();
            text.setPattern("%d{HH:mm:ss.SSS} %-5level %logger{0} %msg%replace( %kvp){' $',''}%n");
            encoder = text;
        }
        encoder.setContext(context);
        encoder.start();
        ConsoleAppender<ILoggingEvent> appender = new ConsoleAppender<>();
        appender.setContext(context);
        appender.setTarget("System.err");
        appender.setEncoder(encoder);
        appender.start();
        context.getLogger(Logger.ROOT_LOGGER_NAME).addAppender(appender);
        context.getLogger(Logger.ROOT_LOGGER_NAME).setLevel(Level.WARN);
        context.getLogger("org.comneck").setLevel(level);
    }
}
