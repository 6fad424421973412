package org.comneck.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.invoke.MethodHandle;

/** Failures of the emulated device, until closed. Tests that inject do not run beside others that use the emulation. */
public final class InjectedFault implements AutoCloseable {
    /** CUDA's calls that can fail, in the numbers of the emulation. */
    public enum Call {
        ALLOCATE,
        LAUNCH,
        SYNCHRONIZE,
        CAPTURE
    }

    /** cudaErrorMemoryAllocation. */
    public static final int OUT_OF_MEMORY = 2;

    /** cudaErrorDevicesUnavailable. */
    public static final int UNAVAILABLE = 46;

    /** cudaErrorLaunchFailure. */
    public static final int LAUNCH_FAILURE = 719;

    /**
     * @param after calls of this kind that still succeed
     * @param error number of CUDA's
     * @param sticky whether everything fails from then on
     */
    public InjectedFault(Call call, int after, int error, boolean sticky) {
        inject(call.ordinal(), after, error, sticky ? 1 : 0);
    }

    @Override
    public void close() {
        inject(0, 0, 0, 0);
    }

    /** How many calls of a kind there were. */
    public static long count(Call call) {
        try {
            return (long) find("comneck_emulation_count", FunctionDescriptor.of(JAVA_LONG, JAVA_INT))
                    .invokeExact(call.ordinal());
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }

    private static void inject(int call, int after, int error, int sticky) {
        try {
            find("comneck_emulation_inject", FunctionDescriptor.ofVoid(JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT))
                    .invokeExact(call, after, error, sticky);
        } catch (Throwable t) {
            throw new AssertionError(t);
        }
    }

    private static MethodHandle find(String name, FunctionDescriptor descriptor) {
        return EmulatedCuda.LOADED.library().find(name, descriptor);
    }
}
