package org.comneck.cli;

import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import org.comneck.UsageException;
import org.comneck.engine.EngineOptions;
import org.comneck.server.Batching;
import org.comneck.server.ComneckServer;
import org.comneck.server.Limits;
import org.comneck.server.LogConfigurator;
import org.comneck.server.Models;
import org.comneck.server.ServerOptions;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code comneck serve}: bitstreams in, tokens out, over HTTP and TCP, until it is told to stop. */
@Command(
        name = "serve",
        mixinStandardHelpOptions = true,
        description =
                "Serves tokens over HTTP and TCP until SIGTERM or Ctrl-C, then answers what is in flight and ends.",
        footer = {"", "Example: comneck serve --port 8080 --models /mnt/models"})
final class ServeCommand implements Callable<Integer> {
    private static final ServerOptions DEFAULT = ServerOptions.DEFAULT;

    @Option(names = "--host", paramLabel = "NAME", description = "Address to bind; default ${DEFAULT-VALUE}.")
    private String host = DEFAULT.host();

    @Option(
            names = "--port",
            paramLabel = "N",
            description = "Port of HTTP; 0 is any free one, -1 none; default ${DEFAULT-VALUE}.")
    private int port = DEFAULT.httpPort();

    @Option(
            names = "--tcp-port",
            paramLabel = "N",
            description =
                    "Port of the binary protocol (docs/protocol.md); 0 is any free one, -1 none; default ${DEFAULT-VALUE}.")
    private int tcpPort = DEFAULT.tcpPort();

    @Option(
            names = "--models",
            paramLabel = "FOLDER",
            description = "Folder of models, name/version/model.safetensors, instead of one --model.")
    private Path models;

    @Option(
            names = "--batch",
            paramLabel = "N",
            description = "Most pictures computed together; default ${DEFAULT-VALUE}. Same bits for any.")
    private int batch = Batching.DEFAULT.images();

    @Option(
            names = "--batch-delay",
            paramLabel = "MICROS",
            description = "Longest wait for others while a thread is free; default ${DEFAULT-VALUE}.")
    private long batchDelay = Batching.DEFAULT.delayMicros();

    @Option(
            names = "--batches",
            paramLabel = "N",
            description =
                    "Batches computed side by side; default 1 on the processor, whose cores one batch fills, 2 on a GPU,"
                            + " where one is prepared while another one is computed.")
    private Integer batches;

    @Option(names = "--queue", paramLabel = "N", description = "Most requests that wait; default ${DEFAULT-VALUE}.")
    private int queue = Batching.DEFAULT.queue();

    @Option(names = "--max-body", paramLabel = "BYTES", description = "Longest body; default ${DEFAULT-VALUE}.")
    private long maxBody = Limits.DEFAULT.bodyBytes();

    @Option(
            names = "--max-pixels",
            paramLabel = "N",
            description = "Most padded pixels of an image in a bitstream; default ${DEFAULT-VALUE}.")
    private long maxPixels = Limits.DEFAULT.pixels();

    @Option(
            names = "--max-photo-pixels",
            paramLabel = "N",
            description = "Most pixels of a photo; default ${DEFAULT-VALUE}.")
    private long maxPhotoPixels = Limits.DEFAULT.photoPixels();

    @Option(
            names = "--max-connections",
            paramLabel = "N",
            description = "Most open connections; default ${DEFAULT-VALUE}.")
    private int maxConnections = Limits.DEFAULT.connections();

    @Option(names = "--tls-cert", paramLabel = "FILE", description = "Certificate chain, PEM.")
    private Path certificate;

    @Option(names = "--tls-key", paramLabel = "FILE", description = "Its private key, PEM (PKCS #8).")
    private Path key;

    @Option(
            names = "--tls-client-ca",
            paramLabel = "FILE",
            description = "Ask clients for certificates that descend from these, PEM.")
    private Path clientAuthority;

    @Option(
            names = "--token-file",
            paramLabel = "FILE",
            description = "Ask clients for a bearer token: one of this file, one a line; read again when it changes.")
    private Path tokens;

    @Option(names = "--insecure-public", description = "Allow an address other than loopback without TLS and tokens.")
    private boolean insecurePublic;

    @Option(
            names = "--grace",
            paramLabel = "SECONDS",
            description = "On SIGTERM: not ready, but serving, for so long. Default: 0 on loopback, else 5.")
    private Double grace;

    @Option(
            names = "--drain-timeout",
            paramLabel = "SECONDS",
            description = "Longest time for what is in flight; default ${DEFAULT-VALUE}.")
    private double drainTimeout = DEFAULT.drain().timeoutMillis() / 1000.0;

    @Option(
            names = "--log-format",
            paramLabel = "NAME",
            description = "Log lines as text or json; default ${DEFAULT-VALUE}.")
    private LogConfigurator.Format logFormat = LogConfigurator.Format.TEXT;

    @Option(
            names = "--log-level",
            paramLabel = "NAME",
            description = "error, warn, info, or debug, which logs every request; default ${DEFAULT-VALUE}.")
    private String logLevel = "info";

    @Mixin
    private EngineFlags engineFlags;

    @Spec
    private CommandSpec spec;

    @Override
    public Integer call() throws InterruptedException {
        LogConfigurator.configure(logFormat, logLevel);
        EngineOptions engine = engineFlags.options();
        if (models != null && engineFlags.model() != null) {
            throw new UsageException("--model is one file and --models a folder: give one of them");
        }
        ServerOptions options = DEFAULT.withHost(host)
                .withPorts(port, tcpPort)
                .withBatching(Batching.DEFAULT
                        .withImages(batch)
                        .withDelayMicros(batchDelay)
                        .withQueue(queue)
                        .withThreads(batches != null ? batches : Batching.DEFAULT.threads()))
                .withLimits(Limits.DEFAULT
                        .withBodyBytes(maxBody)
                        .withPixels(maxPixels, maxPhotoPixels)
                        .withConnections(maxConnections, Limits.DEFAULT.streams()))
                .withSecurity(new ServerOptions.Security(certificate, key, clientAuthority, tokens, insecurePublic))
                .withDrain(new ServerOptions.Drain(
                        grace == null ? -1 : Math.round(grace * 1000), Math.round(drainTimeout * 1000)));
        Models loaded = models != null
                ? Models.folder(models, engine)
                : engineFlags.model() != null ? Models.file(engineFlags.model(), engine) : Models.embedded(engine);
        if (batches == null && loaded.onDevice()) {
            options = options.withBatching(options.batching().withThreads(2));
        }
        ComneckServer server = ComneckServer.start(options, loaded);
        Main.onStop(() -> server.drain() ? ExitStatus.OK : ExitStatus.INTERNAL);
        Main.Streams streams = Main.streams(spec);
        String url = (certificate == null ? "http://" : "https://") + (host.contains(":") ? "[" + host + "]" : host)
                + ":" + server.httpPort();
        long millis = System.currentTimeMillis()
                - ManagementFactory.getRuntimeMXBean().getStartTime();
        streams.out()
                .println(String.format(
                        Locale.ROOT,
                        "comneck: serving %s at %s, after %.2f s",
                        loaded.defaultName(),
                        url,
                        millis / 1000.0));
        if (tcpPort >= 0) {
            streams.out().println("comneck: binary protocol at " + host + ":" + server.tcpPort());
        }
        streams.out().println("try: curl --data-binary @docs/photo.jpg '" + url + "/v1/tokens?format=npy' -o t.npy");
        streams.out().flush();
        new CountDownLatch(1).await(); // the signal ends the process
        return ExitStatus.OK;
    }
}
