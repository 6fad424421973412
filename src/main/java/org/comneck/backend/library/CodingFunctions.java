package org.comneck.backend.library;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.invoke.MethodHandle;
import java.util.function.BiFunction;

/** The functions of comneck.h that have to do with symbols and payloads. */
record CodingFunctions(
        MethodHandle tablesCreate,
        MethodHandle tablesDestroy,
        MethodHandle encoderCreate,
        MethodHandle encode,
        MethodHandle encoderDestroy,
        MethodHandle decoderCreate,
        MethodHandle start,
        MethodHandle decode,
        MethodHandle finish,
        MethodHandle damage,
        MethodHandle decoderDestroy,
        MethodHandle planQuantizeFactorized,
        MethodHandle planQuantizeGaussian,
        MethodHandle planPayloads,
        MethodHandle planDecodeFactorized,
        MethodHandle planDecodeGaussian,
        MethodHandle planFinishPayloads,
        MethodHandle planPayload,
        MethodHandle planDamage,
        MethodHandle planEncode,
        MethodHandle planEncoded) {

    static CodingFunctions bind(BiFunction<String, FunctionDescriptor, MethodHandle> find) {
        FunctionDescriptor destroy = FunctionDescriptor.ofVoid(ADDRESS);
        return new CodingFunctions(
                find.apply(
                        "comneck_tables_create",
                        FunctionDescriptor.of(
                                JAVA_INT, JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG, ADDRESS,
                                JAVA_LONG, ADDRESS)),
                find.apply("comneck_tables_destroy", destroy),
                find.apply("comneck_rans_encoder_create", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS)),
                find.apply(
                        "comneck_rans_encode",
                        FunctionDescriptor.of(
                                JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, JAVA_INT, ADDRESS, ADDRESS, ADDRESS)),
                find.apply("comneck_rans_encoder_destroy", destroy),
                find.apply("comneck_rans_decoder_create", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS)),
                find.apply("comneck_rans_start", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG)),
                find.apply(
                        "comneck_rans_decode",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG)),
                find.apply("comneck_rans_finish", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT)),
                find.apply(
                        "comneck_rans_damage", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS)),
                find.apply("comneck_rans_decoder_destroy", destroy),
                find.apply(
                        "comneck_plan_quantize_factorized",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, ADDRESS)),
                find.apply(
                        "comneck_plan_quantize_gaussian",
                        FunctionDescriptor.of(
                                JAVA_INT, ADDRESS, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, ADDRESS, ADDRESS)),
                find.apply("comneck_plan_payloads", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT)),
                find.apply(
                        "comneck_plan_decode_factorized",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, ADDRESS)),
                find.apply(
                        "comneck_plan_decode_gaussian",
                        FunctionDescriptor.of(
                                JAVA_INT, ADDRESS, ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS, ADDRESS)),
                find.apply("comneck_plan_finish_payloads", FunctionDescriptor.of(JAVA_INT, ADDRESS)),
                find.apply(
                        "comneck_plan_payload",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT)),
                find.apply(
                        "comneck_plan_damage",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS)),
                find.apply(
                        "comneck_plan_encode",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS, ADDRESS, JAVA_INT, JAVA_INT)),
                find.apply(
                        "comneck_plan_encoded",
                        FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT, ADDRESS, ADDRESS, ADDRESS)));
    }
}
