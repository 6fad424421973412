package org.comneck.backend.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.bytedeco.cuda.global.cublas;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.cudnn;
import org.junit.jupiter.api.Test;

/**
 * The numbers that kernels/vendor declares by hand are those of CUDA's headers, as JavaCPP's preset has them. Its constants are the compiler's:
 * none of CUDA is loaded.
 */
class VendorConstantsTest {
    private static final Pattern DECLARED = Pattern.compile("constexpr (?:int|int32_t|uint32_t) (k\\w+) = (\\d+);");

    @Test
    void cublasLt() throws IOException {
        Map<String, Integer> theirs = new HashMap<>();
        theirs.put("kSuccess", cublas.CUBLAS_STATUS_SUCCESS);
        theirs.put("kInvalidValue", cublas.CUBLAS_STATUS_INVALID_VALUE);
        theirs.put("kExecutionFailed", cublas.CUBLAS_STATUS_EXECUTION_FAILED);
        theirs.put("kNotSupported", cublas.CUBLAS_STATUS_NOT_SUPPORTED);
        theirs.put("kR32F", cudart.CUDA_R_32F);
        theirs.put("kR16F", cudart.CUDA_R_16F);
        theirs.put("kR16BF", cudart.CUDA_R_16BF);
        theirs.put("kCompute32F", cublas.CUBLAS_COMPUTE_32F);
        theirs.put("kOpT", cublas.CUBLAS_OP_T);
        theirs.put("kDescTransA", cublas.CUBLASLT_MATMUL_DESC_TRANSA);
        theirs.put("kDescEpilogue", cublas.CUBLASLT_MATMUL_DESC_EPILOGUE);
        theirs.put("kDescBiasPointer", cublas.CUBLASLT_MATMUL_DESC_BIAS_POINTER);
        theirs.put("kEpilogueBias", cublas.CUBLASLT_EPILOGUE_BIAS);
        theirs.put("kEpilogueReluBias", cublas.CUBLASLT_EPILOGUE_RELU_BIAS);
        theirs.put("kPreferenceWorkspaceBytes", cublas.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
        theirs.put("kPreferenceReductionMask", cublas.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
        theirs.put("kPreferenceAlignmentA", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
        theirs.put("kPreferenceAlignmentB", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
        theirs.put("kPreferenceAlignmentC", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
        theirs.put("kPreferenceAlignmentD", cublas.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
        theirs.put("kReductionNone", cublas.CUBLASLT_REDUCTION_SCHEME_NONE);
        theirs.put("kConfigSplitK", cublas.CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
        theirs.put("kConfigReduction", cublas.CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
        assertEquals(theirs, declared("cublaslt_api.h"));
    }

    @Test
    void cudnn() throws IOException {
        Map<String, Integer> theirs = new HashMap<>();
        theirs.put("kSuccess", cudnn.CUDNN_STATUS_SUCCESS);
        theirs.put("kBadParameter", cudnn.CUDNN_STATUS_BAD_PARAM);
        theirs.put("kNotSupported", cudnn.CUDNN_STATUS_NOT_SUPPORTED);
        theirs.put("kExecutionFailed", cudnn.CUDNN_STATUS_EXECUTION_FAILED);
        theirs.put("kFloat", cudnn.CUDNN_DATA_FLOAT);
        theirs.put("kHalf", cudnn.CUDNN_DATA_HALF);
        theirs.put("kBfloat16", cudnn.CUDNN_DATA_BFLOAT16);
        theirs.put("kNhwc", cudnn.CUDNN_TENSOR_NHWC);
        theirs.put("kCrossCorrelation", cudnn.CUDNN_CROSS_CORRELATION);
        theirs.put("kTensorOpMath", cudnn.CUDNN_TENSOR_OP_MATH);
        theirs.put("kDeterministic", cudnn.CUDNN_DETERMINISTIC);
        theirs.put("kImplicitPrecompGemm", cudnn.CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM);
        theirs.put("kRelu", cudnn.CUDNN_ACTIVATION_RELU);
        theirs.put("kIdentity", cudnn.CUDNN_ACTIVATION_IDENTITY);
        theirs.put("kNoNan", cudnn.CUDNN_NOT_PROPAGATE_NAN);
        assertEquals(theirs, declared("cudnn_api.h"));
    }

    private static Map<String, Integer> declared(String header) throws IOException {
        Map<String, Integer> ours = new HashMap<>();
        Matcher matcher = DECLARED.matcher(Files.readString(Path.of("kernels/vendor", header)));
        while (matcher.find()) {
            ours.put(matcher.group(1), Integer.parseInt(matcher.group(2)));
        }
        assertTrue(ours.size() > 10, header);
        return ours;
    }
}
