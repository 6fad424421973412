package org.comneck.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.library.ComneckLibrary;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.junit.jupiter.api.Test;

/** Availability and what follows from it; what the kernels compute is tested beside the other backends', on the emulation. */
class CudaBackendTest {
    @Test
    void withoutADriverTheCauseIsAValue() {
        CudaBackend.Availability availability = CudaBackend.availability(0);
        assumeFalse(availability.isAvailable(), "this machine has a GPU");
        assertNotEquals(CudaBackend.Cause.AVAILABLE, availability.cause());
        assertFalse(availability.text().isBlank());
        InternalException e = assertThrows(InternalException.class, () -> CudaBackend.open(0));
        assertTrue(e.getMessage().contains(availability.text()), e.getMessage());
    }

    /** The library that nvcc made loads on a machine without a driver, and says so. */
    @Test
    void theLibraryLoadsWithoutADriver() {
        ComneckLibrary.Loaded loaded = ComneckLibrary.load(CudaBackend.class, "libcomneck_cuda.so");
        assumeTrue(loaded.cause() == null, () -> "this build has no nvcc: " + loaded.cause());
        CudaBackend.Availability availability = CudaBackend.availability(loaded.library(), 0);
        assumeFalse(availability.isAvailable(), "this machine has a GPU");
        assertEquals(CudaBackend.Cause.NO_DRIVER, availability.cause(), availability.text());
        assertThrows(UnsupportedOperationException.class, () -> CudaBackend.open(loaded.library(), CudaLibraries.OWN));
    }

    @Test
    void theEmulationIsADevice() {
        assertNull(EmulatedCuda.LOADED.cause());
        ComneckLibrary library = EmulatedCuda.LOADED.library();
        assertEquals(
                new CudaBackend.Availability(CudaBackend.Cause.AVAILABLE, "emulation on the processor"),
                CudaBackend.availability(library, 0));
        assertEquals(
                CudaBackend.Cause.NO_DEVICE,
                CudaBackend.availability(library, 1).cause());
        try (CudaBackend backend = EmulatedCuda.open()) {
            assertEquals("cuda", backend.name());
            assertEquals("cuda: emulation on the processor", backend.description());
        }
    }

    @Test
    void instructionsAreChosenByName() {
        try (CudaBackend backend = EmulatedCuda.open("sm_90a")) {
            assertEquals("cuda: emulation on the processor, wgmma", backend.description());
            assertTrue(backend.isEmulated());
        }
        try (CudaBackend backend = EmulatedCuda.open("sm_80")) {
            assertEquals("cuda: emulation on the processor", backend.description());
        }
        UsageException e = assertThrows(UsageException.class, () -> EmulatedCuda.open("sm_9"));
        assertTrue(e.getMessage().contains("auto, sm_80, sm_90a"), e.getMessage());
    }

    @Test
    void aLibraryThatCannotBeLoadedIsACauseToo() {
        System.setProperty(CudaBackend.LIBRARY_PROPERTY, "/nowhere/libcomneck_cuda.so");
        try {
            CudaBackend.Availability availability = CudaBackend.availability(0);
            assertEquals(CudaBackend.Cause.NO_LIBRARY, availability.cause());
            assertTrue(availability.text().contains("/nowhere/libcomneck_cuda.so"), availability.text());
            try (NativeEngine engine = NativeEngine.openDefault(EngineOptions.DEFAULT)) {
                assertTrue(engine.backend().startsWith("cpu: "), engine.backend());
            }
        } finally {
            System.clearProperty(CudaBackend.LIBRARY_PROPERTY);
        }
    }

    @Test
    void autoFallsBackAndCudaSaysWhy() {
        CudaBackend.Availability availability = CudaBackend.availability(0);
        assumeFalse(availability.isAvailable(), "this machine has a GPU");
        try (NativeEngine engine = NativeEngine.openDefault(EngineOptions.DEFAULT)) {
            assertTrue(engine.backend().startsWith("cpu: "), engine.backend());
        }
        UsageException e = assertThrows(
                UsageException.class, () -> NativeEngine.openDefault(EngineOptions.DEFAULT.withBackend("cuda")));
        assertTrue(e.getMessage().contains(availability.text()), e.getMessage());
    }
}
