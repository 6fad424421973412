package org.comneck.engine;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.List;
import org.comneck.backend.RunBuilder;

/** The names of a run's stages in order, noted while the networks record them. */
final class RecordedStages {
    private final List<String> names = new ArrayList<>();
    private final RunBuilder builder;

    RecordedStages(RunBuilder recorded) {
        this.builder = (RunBuilder) Proxy.newProxyInstance(
                RunBuilder.class.getClassLoader(), new Class<?>[] {RunBuilder.class}, (proxy, method, arguments) -> {
                    try {
                        Object result = method.invoke(recorded, arguments);
                        if (method.getName().equals("stage")) {
                            while (names.size() <= (int) result) {
                                names.add("");
                            }
                            names.set((int) result, (String) arguments[0]);
                        }
                        return result;
                    } catch (InvocationTargetException e) {
                        throw e.getCause();
                    }
                });
    }

    /** The builder to record on. */
    RunBuilder builder() {
        return builder;
    }

    /** Name of stage i of {@link org.comneck.backend.Run#stageNanos} at place i. */
    List<String> names() {
        return List.copyOf(names);
    }
}
