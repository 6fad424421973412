package org.comneck.backend.cuda;

import java.util.Locale;

/** Whose kernels the layers of BF16 and F16 are made of. F32 is our own kernels' always, which have the processor's bits. */
public enum CudaLibraries {
    /** Our own. */
    OWN,
    /**
     * cuBLASLt's and cuDNN's where they are installed and do what a layer asks for, our own elsewhere. The files are those that the system
     * properties {@code comneck.cublaslt} and {@code comneck.cudnn} name, else those that JavaCPP's CUDA preset has or finds where it
     * is on the class path, else those that the system's search finds.
     */
    VENDOR;

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}
