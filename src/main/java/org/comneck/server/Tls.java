package org.comneck.server;

import io.netty.handler.ssl.ApplicationProtocolConfig;
import io.netty.handler.ssl.ApplicationProtocolNames;
import io.netty.handler.ssl.ClientAuth;
import io.netty.handler.ssl.SslContext;
import io.netty.handler.ssl.SslContextBuilder;
import java.nio.file.Path;
import javax.net.ssl.SSLException;
import org.comneck.UsageException;

/** TLS 1.2 and 1.3 from PEM files, with the JDK's own implementation. */
final class Tls {
    private Tls() {}

    /**
     * The context of a port, or null without certificate.
     *
     * @param http whether HTTP/2 and HTTP/1.1 are offered by ALPN
     * @throws UsageException when a file is not what it should be
     */
    static SslContext context(ServerOptions.Security security, boolean http) {
        if (security.certificate() == null && security.key() == null) {
            if (security.clientAuthority() != null) {
                throw new UsageException("client certificates need a certificate and a key of the server");
            }
            return null;
        }
        if (security.certificate() == null || security.key() == null) {
            throw new UsageException("TLS needs both a certificate and a key");
        }
        try {
            SslContextBuilder builder = SslContextBuilder.forServer(file(security.certificate()), file(security.key()))
                    .protocols("TLSv1.3", "TLSv1.2");
            if (security.clientAuthority() != null) {
                builder.trustManager(file(security.clientAuthority())).clientAuth(ClientAuth.REQUIRE);
            }
            if (http) {
                builder.applicationProtocolConfig(new ApplicationProtocolConfig(
                        ApplicationProtocolConfig.Protocol.ALPN,
                        ApplicationProtocolConfig.SelectorFailureBehavior.NO_ADVERTISE,
                        ApplicationProtocolConfig.SelectedListenerFailureBehavior.ACCEPT,
                        ApplicationProtocolNames.HTTP_2,
                        ApplicationProtocolNames.HTTP_1_1));
            }
            return builder.build();
        } catch (SSLException | IllegalArgumentException e) {
            Throwable cause = e.getCause() == null ? e : e.getCause();
            throw new UsageException(
                    "TLS cannot be set up from " + security.certificate() + " and " + security.key()
                            + " (PEM, key in PKCS #8): " + cause.getMessage(),
                    e);
        }
    }

    private static java.io.File file(Path path) {
        if (!java.nio.file.Files.isReadable(path)) {
            throw new UsageException(path + ": cannot be read", new java.io.IOException("not readable"));
        }
        return path.toFile();
    }
}
