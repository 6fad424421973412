package org.comneck;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.tngtech.archunit.core.domain.Dependency;
import com.tngtech.archunit.core.domain.JavaAccess;
import com.tngtech.archunit.core.domain.JavaClass;
import com.tngtech.archunit.core.domain.JavaClasses;
import com.tngtech.archunit.core.importer.ClassFileImporter;
import com.tngtech.archunit.core.importer.ImportOption;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The rules of the layout: who may import whom, and which technology stays where. */
class LayeringTest {
    /** A package imports only packages before it in this list. */
    private static final List<String> ORDER = List.of(
            "org.comneck",
            "org.comneck.tensor",
            "org.comneck.backend",
            "org.comneck.backend.reference",
            "org.comneck.backend.library",
            "org.comneck.backend.cpu",
            "org.comneck.backend.cuda",
            "org.comneck.bitstream",
            "org.comneck.entropy",
            "org.comneck.model",
            "org.comneck.codec",
            "org.comneck.neck",
            "org.comneck.vision",
            "org.comneck.engine",
            "org.comneck.wire",
            "org.comneck.client",
            "org.comneck.server",
            "org.comneck.train",
            "org.comneck.eval",
            "org.comneck.cli");

    private static final Path SOURCES = Path.of("src", "main", "java");
    private static final Pattern FORBIDDEN_CLASS = Pattern.compile(".*(Impl|Manager|Utils|Util|Helper)$");
    private static final Set<String> FORBIDDEN_PACKAGE = Set.of("util", "utils", "common", "misc", "helper", "helpers");

    private static JavaClasses classes;

    @BeforeAll
    static void readClasses() {
        classes = new ClassFileImporter()
                .withImportOption(ImportOption.Predefined.DO_NOT_INCLUDE_TESTS)
                .importPath(Path.of("target", "classes"));
        assertTrue(classes.size() > 50, "the compiled classes were not found");
    }

    @Test
    void everyPackageHasItsPlace() {
        Set<String> unknown = new TreeSet<>();
        for (JavaClass type : classes) {
            if (!ORDER.contains(type.getPackageName())) {
                unknown.add(type.getPackageName());
            }
        }
        assertEquals(Set.of(), unknown);
    }

    @Test
    void importsPointUpwards() {
        assertNone(classes.stream()
                .flatMap(type -> type.getDirectDependenciesFromSelf().stream())
                .filter(use -> use.getTargetClass().getPackageName().startsWith("org.comneck"))
                .filter(use ->
                        ORDER.indexOf(packageOf(use.getTargetClass())) > ORDER.indexOf(packageOf(use.getOriginClass())))
                .map(Dependency::getDescription));
    }

    @Test
    void nativeCallsStayInTheirBackends() {
        staysIn(
                type -> type.getName().equals("java.lang.foreign.Linker")
                        || type.getName().equals("java.lang.foreign.SymbolLookup"),
                "org.comneck.backend.library");
    }

    @Test
    void libTorchStaysInTraining() {
        staysIn(type -> type.getName().startsWith("org.bytedeco."), "org.comneck.train", "org.comneck.backend.cuda");
    }

    @Test
    void nettyStaysInTheServer() {
        staysIn(type -> type.getName().startsWith("io.netty."), "org.comneck.server");
    }

    @Test
    void onlyTheCommandLinePrints() {
        assertNone(classes.stream()
                .filter(type -> !type.getPackageName().equals("org.comneck.cli"))
                .flatMap(type -> type.getAccessesFromSelf().stream())
                .filter(access -> access.getTargetOwner().getName().equals("java.lang.System")
                        && (access.getTarget().getName().equals("out")
                                || access.getTarget().getName().equals("err")))
                .map(JavaAccess::getDescription));
    }

    @Test
    void nothingExitsButTheCommandLine() {
        assertNone(classes.stream()
                .filter(type -> !type.getPackageName().equals("org.comneck.cli"))
                .flatMap(type -> type.getMethodCallsFromSelf().stream())
                .filter(call -> call.getTargetOwner().getName().equals("java.lang.System")
                        && call.getTarget().getName().equals("exit"))
                .map(JavaAccess::getDescription));
    }

    @Test
    void everyPackageHasItsPage() throws IOException {
        List<Path> without = new ArrayList<>();
        try (Stream<Path> files = Files.walk(SOURCES)) {
            for (Path directory : files.filter(Files::isDirectory).toList()) {
                boolean hasJava;
                try (Stream<Path> inside = Files.list(directory)) {
                    hasJava = inside.anyMatch(file -> file.toString().endsWith(".java"));
                }
                if (hasJava && !Files.exists(directory.resolve("package-info.java"))) {
                    without.add(directory);
                }
            }
        }
        assertEquals(List.of(), without);
    }

    @Test
    void namesSayWhatThingsAre() {
        for (JavaClass type : classes) {
            assertFalse(FORBIDDEN_CLASS.matcher(type.getSimpleName()).matches(), type.getName());
            for (String part : type.getPackageName().split("\\.")) {
                assertFalse(FORBIDDEN_PACKAGE.contains(part), type.getName());
            }
        }
    }

    private static void staysIn(Predicate<JavaClass> technology, String... packages) {
        assertNone(classes.stream()
                .filter(type -> !List.of(packages).contains(type.getPackageName()))
                .flatMap(type -> type.getDirectDependenciesFromSelf().stream())
                .filter(use -> technology.test(use.getTargetClass()))
                .map(Dependency::getDescription));
    }

    private static String packageOf(JavaClass type) {
        return type.getPackageName();
    }

    private static void assertNone(Stream<String> violations) {
        assertEquals("", String.join("\n", violations.distinct().toList()));
    }
}
