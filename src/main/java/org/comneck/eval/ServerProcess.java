package org.comneck.eval;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.comneck.InternalException;
import org.comneck.UsageException;

/** {@code comneck serve} as a process of its own, on free ports of the loopback address. */
final class ServerProcess implements AutoCloseable {
    private static final Pattern HTTP = Pattern.compile("at http://[^ ]*:(\\d+), after ");
    private static final Pattern TCP = Pattern.compile("binary protocol at [^ ]*:(\\d+)$");

    private final Process process;
    private final Thread orphaned; // what ends the process when this one is told to end
    private final int httpPort;
    private final int tcpPort;

    /** @param flags more flags of {@code comneck serve} */
    ServerProcess(List<String> flags) {
        List<String> command = new ArrayList<>(OwnProcess.java());
        command.addAll(List.of("serve", "--port", "0", "--tcp-port", "0"));
        command.addAll(flags);
        try {
            process = new ProcessBuilder(command)
                    .redirectError(ProcessBuilder.Redirect.DISCARD)
                    .start();
            orphaned = new Thread(process::destroyForcibly);
            Runtime.getRuntime().addShutdownHook(orphaned);
            BufferedReader lines =
                    new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
            int http = -1;
            int tcp = -1;
            while (http < 0 || tcp < 0) {
                String line = lines.readLine();
                if (line == null) {
                    throw new UsageException("the server did not start: try 'comneck serve' " + flags);
                }
                Matcher ofHttp = HTTP.matcher(line);
                Matcher ofTcp = TCP.matcher(line);
                if (ofHttp.find()) {
                    http = Integer.parseInt(ofHttp.group(1));
                } else if (ofTcp.find()) {
                    tcp = Integer.parseInt(ofTcp.group(1));
                }
            }
            httpPort = http;
            tcpPort = tcp;
        } catch (IOException e) {
            throw new UsageException("the server cannot be started: " + e.getMessage(), e);
        }
    }

    int httpPort() {
        return httpPort;
    }

    int tcpPort() {
        return tcpPort;
    }

    /** Memory of the process in the machine, bytes; Linux. */
    long residentBytes() {
        try {
            for (String line : Files.readAllLines(Path.of("/proc", "" + process.pid(), "status"))) {
                if (line.startsWith("VmRSS:")) {
                    return 1024 * Long.parseLong(line.replaceAll("[^0-9]", ""));
                }
            }
        } catch (IOException e) {
            throw new UsageException("memory is measured on Linux only: " + e.getMessage(), e);
        }
        throw new InternalException("no VmRSS", null);
    }

    /** Stops it as an operator would, and says whether it ended well. */
    boolean stop() {
        process.destroy();
        try {
            return process.waitFor(60, TimeUnit.SECONDS) && process.exitValue() == 0;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    @Override
    public void close() {
        process.destroyForcibly();
        try {
            Runtime.getRuntime().removeShutdownHook(orphaned);
        } catch (IllegalStateException e) {
            // This process is ending: the hook runs.
        }
    }
}
