package lambent;

import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** An error as Lambda writes it for Java: message, class, the function's own frames, and its cause alike. */
final class Failure {
    private static final int MOST_CAUSES = 10;

    final String type;
    /** The runtime cannot be trusted to go on. */
    final boolean isFatal;

    private final Throwable error;
    private final Map<String, Object> fields;

    private Failure(Throwable error) {
        this.error = error;
        this.type = error instanceof Fault ? ((Fault) error).type : error.getClass().getName();
        this.isFatal = error instanceof VirtualMachineError;
        this.fields = fields(error, type, 0);
    }

    static Failure of(Throwable thrown) {
        Throwable error = thrown;
        while (error.getCause() != null
                && (error instanceof InvocationTargetException || error instanceof ExceptionInInitializerError)) {
            error = error.getCause();
        }
        return new Failure(error);
    }

    byte[] json() {
        return Json.write(fields).getBytes(StandardCharsets.UTF_8);
    }

    void log() {
        StringBuilder text = new StringBuilder().append(error.getMessage()).append(": ").append(type).append('\n');
        text.append(error).append('\n');
        for (String frame : frames(error)) {
            text.append("\tat ").append(frame).append('\n');
        }
        for (Throwable cause = error.getCause(); cause != null && text.length() < 16_384; cause = cause.getCause()) {
            text.append("Caused by: ").append(cause).append('\n');
            for (String frame : frames(cause)) {
                text.append("\tat ").append(frame).append('\n');
            }
        }
        System.out.print(text);
        System.out.flush();
    }

    private static Map<String, Object> fields(Throwable error, String type, int depth) {
        Map<String, Object> fields = new LinkedHashMap<>();
        fields.put("errorMessage", error.getMessage());
        fields.put("errorType", type);
        fields.put("stackTrace", error instanceof Fault ? new ArrayList<>() : frames(error));
        Throwable cause = error.getCause();
        if (cause != null && depth < MOST_CAUSES) {
            fields.put("cause", fields(cause, cause.getClass().getName(), depth + 1));
        }
        return fields;
    }

    /** Down to this package, and what it uses to call the function. */
    private static List<String> frames(Throwable error) {
        StackTraceElement[] trace = error.getStackTrace();
        int end = 0;
        while (end < trace.length && !trace[end].getClassName().startsWith("lambent.")) {
            end++;
        }
        while (end > 0 && end < trace.length && isReflection(trace[end - 1].getClassName())) {
            end--;
        }
        List<String> frames = new ArrayList<>();
        for (int i = 0; i < end; i++) {
            frames.add(trace[i].toString());
        }
        return frames;
    }

    private static boolean isReflection(String name) {
        return name.startsWith("java.lang.reflect.") || name.startsWith("jdk.internal.reflect.");
    }
}
