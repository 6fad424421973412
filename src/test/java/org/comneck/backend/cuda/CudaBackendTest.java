package org.comneck.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.comneck.InternalException;
import org.comneck.UsageException;
import org.comneck.backend.Activation;
import org.comneck.backend.Backend;
import org.comneck.backend.Convolution;
import org.comneck.backend.Function;
import org.comneck.backend.Grid;
import org.comneck.backend.Layer;
import org.comneck.backend.Precision;
import org.comneck.backend.RunBuilder;
import org.comneck.backend.library.ComneckLibrary;
import org.comneck.engine.EngineOptions;
import org.comneck.engine.NativeEngine;
import org.comneck.tensor.ElementType;
import org.comneck.tensor.Shape;
import org.comneck.tensor.Tensor;
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

    /** Weights for tensor cores are there alone, until a step asks for others. */
    @Test
    void weightsAreThereOnce() {
        int channels = 256;
        Tensor weight = new Tensor(
                ElementType.F32, Shape.of(channels, channels), MemorySegment.ofArray(new float[channels * channels]));
        long halves = 2L * channels * channels;
        try (Backend backend = EmulatedCuda.open();
                Layer layer = backend.layer(Convolution.linear(channels, channels), weight, null, Precision.BF16)) {
            assertTrue(layer.bytes() >= halves && layer.bytes() < halves + 4096, "" + layer.bytes());
            RunBuilder one = backend.newRun();
            Activation source = one.input(ElementType.F32, 1, 2, 2, channels);
            Activation result = one.buffer(ElementType.F32, Grid.FULL, 1, 2, 2, channels);
            one.convolution(layer, source, null, Function.NONE, result);
            one.output(result);
            one.build().close();
            assertTrue(layer.bytes() < halves + 4096, "" + layer.bytes());
            RunBuilder two = backend.newRun();
            Activation first = two.input(ElementType.F32, 1, 2, 2, channels / 2);
            Activation second = two.input(ElementType.F32, 1, 2, 2, channels / 2);
            result = two.buffer(ElementType.F32, Grid.FULL, 1, 2, 2, channels);
            two.convolution(layer, List.of(first, second), new int[0], null, Function.NONE, result);
            two.output(result);
            two.build().close();
            assertTrue(layer.bytes() >= 3 * halves, "" + layer.bytes());
        }
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
