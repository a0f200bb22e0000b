package lambent;

import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** JSON as maps, lists, texts, numbers, booleans and null; and any object as JSON. */
final class Json {
    private static final int DEEPEST = 500;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    static final class Malformed extends RuntimeException {
        private static final long serialVersionUID = 1;

        Malformed(String message) {
            super(message);
        }
    }

    static Object read(String text) {
        Json json = new Json(text);
        Object value = json.value(0);
        json.space();
        if (json.at < text.length()) {
            throw json.unexpected();
        }
        return value;
    }

    private Malformed unexpected() {
        return new Malformed(
                at < text.length()
                        ? "unexpected character '" + text.charAt(at) + "' at position " + at
                        : "unexpected end");
    }

    private void space() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char next() {
        space();
        if (at >= text.length()) {
            throw unexpected();
        }
        return text.charAt(at);
    }

    private boolean took(char wanted) {
        if (next() != wanted) {
            return false;
        }
        at++;
        return true;
    }

    private void take(char wanted) {
        if (!took(wanted)) {
            throw unexpected();
        }
    }

    private Object value(int depth) {
        if (depth > DEEPEST) {
            throw new Malformed("more than " + DEEPEST + " levels");
        }
        switch (next()) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw unexpected();
        }
        at += word.length();
        return value;
    }

    private Map<String, Object> object(int depth) {
        Map<String, Object> map = new LinkedHashMap<>();
        take('{');
        if (took('}')) {
            return map;
        }
        do {
            if (next() != '"') {
                throw unexpected();
            }
            String name = string();
            take(':');
            map.put(name, value(depth + 1));
        } while (took(','));
        take('}');
        return map;
    }

    private List<Object> array(int depth) {
        List<Object> list = new ArrayList<>();
        take('[');
        if (took(']')) {
            return list;
        }
        do {
            list.add(value(depth + 1));
        } while (took(','));
        take(']');
        return list;
    }

    private String string() {
        int start = ++at;
        while (at < text.length() && text.charAt(at) != '"' && text.charAt(at) != '\\' && text.charAt(at) >= ' ') {
            at++;
        }
        if (at < text.length() && text.charAt(at) == '"') {
            return text.substring(start, at++);
        }
        StringBuilder result = new StringBuilder(text.length() - start > 1 << 16 ? 1 << 16 : 64);
        result.append(text, start, at);
        while (at < text.length()) {
            char c = text.charAt(at);
            if (c == '"') {
                at++;
                return result.toString();
            }
            if (c < ' ') {
                throw unexpected();
            }
            at++;
            result.append(c == '\\' ? escaped() : c);
        }
        throw unexpected();
    }

    private char escaped() {
        if (at >= text.length()) {
            throw unexpected();
        }
        char c = text.charAt(at++);
        int index = "\"\\/bfnrt".indexOf(c);
        if (index >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(index);
        }
        try {
            if (c == 'u') {
                at += 4;
                return (char) Integer.parseInt(text.substring(at - 4, at), 16);
            }
        } catch (RuntimeException error) {
            throw new Malformed("a bad \\u escape at position " + at);
        }
        throw new Malformed("a bad escape '\\" + c + "' at position " + at);
    }

    private Object number() {
        int start = at;
        while (at < text.length() && "+-.0123456789eE".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
        String digits = text.substring(start, at);
        try {
            if (digits.matches("-?\\d{1,18}")) {
                long value = Long.parseLong(digits);
                return value == (int) value ? (Object) (int) value : (Object) value;
            }
            return digits.matches("-?\\d+") ? (Object) new BigInteger(digits) : (Object) Double.valueOf(digits);
        } catch (NumberFormatException error) {
            at = start;
            throw unexpected();
        }
    }

    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    private static void write(Object value, StringBuilder out) {
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof Number) {
            number((Number) value, out);
        } else if (value instanceof Map) {
            map((Map<?, ?>) value, out);
        } else if (value instanceof Iterable && !(value instanceof java.nio.file.Path)) {
            items((Iterable<?>) value, out);
        } else if (value instanceof byte[]) {
            quote(Base64.getEncoder().encodeToString((byte[]) value), out);
        } else if (value instanceof char[]) {
            quote(new String((char[]) value), out);
        } else if (value.getClass().isArray()) {
            List<Object> items = new ArrayList<>();
            for (int i = 0; i < Array.getLength(value); i++) {
                items.add(Array.get(value, i));
            }
            items(items, out);
        } else if (value instanceof Optional) {
            write(((Optional<?>) value).orElse(null), out);
        } else if (value instanceof Date) {
            out.append(((Date) value).getTime());
        } else if (value instanceof Enum) {
            quote(((Enum<?>) value).name(), out);
        } else if (isText(value)) {
            quote(value.toString(), out);
        } else {
            object(value, out);
        }
    }

    /** Of Java's own classes nobody wants the properties. */
    private static boolean isText(Object value) {
        String name = value.getClass().getName();
        return value instanceof CharSequence || name.startsWith("java.") || name.startsWith("sun.");
    }

    private static void number(Number value, StringBuilder out) {
        double number = value.doubleValue();
        if (value instanceof BigDecimal || !Double.isNaN(number) && !Double.isInfinite(number)) {
            out.append(value);
        } else if (value instanceof BigInteger) {
            out.append(value);
        } else {
            quote(value.toString(), out);
        }
    }

    private static void map(Map<?, ?> map, StringBuilder out) {
        char before = '{';
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            out.append(before);
            quote(String.valueOf(entry.getKey()), out);
            out.append(':');
            write(entry.getValue(), out);
            before = ',';
        }
        out.append(before == '{' ? "{}" : "}");
    }

    private static void items(Iterable<?> items, StringBuilder out) {
        char before = '[';
        for (Object item : items) {
            out.append(before);
            write(item, out);
            before = ',';
        }
        out.append(before == '[' ? "[]" : "]");
    }

    private static void object(Object value, StringBuilder out) {
        try {
            map(Properties.of(value), out);
        } catch (ReflectiveOperationException error) {
            throw new Fault(
                    "Runtime.MarshalError", "Unable to marshal a " + value.getClass().getName() + ": " + error);
        }
    }

    private static void quote(String text, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || Character.isSurrogate(c) && !isPaired(text, i)) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    private static boolean isPaired(String text, int at) {
        char c = text.charAt(at);
        return Character.isHighSurrogate(c)
                ? at + 1 < text.length() && Character.isLowSurrogate(text.charAt(at + 1))
                : at > 0 && Character.isHighSurrogate(text.charAt(at - 1));
    }
}
