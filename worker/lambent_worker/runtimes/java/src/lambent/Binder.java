package lambent;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Makes of what JSON holds the objects that a handler wants. What they have no place for is left out. */
final class Binder {
    private Binder() {}

    static final class Unsuitable extends RuntimeException {
        private static final long serialVersionUID = 1;

        Unsuitable(Object value, Type wanted) {
            super("a " + wanted.getTypeName() + " cannot be made of " + shown(value));
        }

        private static String shown(Object value) {
            String text = Json.write(value);
            return text.length() > 100 ? text.substring(0, 100) + "..." : text;
        }
    }

    static Object bind(Object value, Type wanted) {
        if (wanted instanceof GenericArrayType) {
            return array(value, ((GenericArrayType) wanted).getGenericComponentType(), wanted);
        }
        Class<?> type = Types.raw(wanted);
        if (value == null) {
            return type.isPrimitive() ? scalar(0, type, wanted) : null;
        }
        if (type == byte[].class && value instanceof String) {
            return bytes((String) value, wanted);
        }
        if (type.isArray()) {
            return array(value, type.getComponentType(), wanted);
        }
        if (type == Object.class || type.isInstance(value) && !isContainer(value)) {
            return value;
        }
        if (Collection.class.isAssignableFrom(type) || type == Iterable.class) {
            return collection(value, type, wanted);
        }
        if (Map.class.isAssignableFrom(type)) {
            return map(value, type, wanted);
        }
        Object scalar = scalar(value, type, wanted);
        return scalar != null ? scalar : object(value, type, wanted);
    }

    private static byte[] bytes(String base64, Type wanted) {
        try {
            return Base64.getDecoder().decode(base64);
        } catch (IllegalArgumentException error) {
            throw new Unsuitable(base64, wanted);
        }
    }

    private static boolean isContainer(Object value) {
        return value instanceof Map || value instanceof List;
    }

    /** Null if it is none. */
    private static Object scalar(Object value, Class<?> type, Type wanted) {
        if (type == String.class || type == CharSequence.class) {
            if (isContainer(value)) {
                throw new Unsuitable(value, wanted);
            }
            return value.toString();
        }
        if (type == boolean.class || type == Boolean.class) {
            return bool(value, wanted);
        }
        if (type == char.class || type == Character.class) {
            return value instanceof String && ((String) value).length() == 1 ? ((String) value).charAt(0) : (char) 0;
        }
        if (type.isEnum()) {
            return constant(value, type, wanted);
        }
        if (type == Date.class || type == Instant.class) {
            return moment(value, type, wanted);
        }
        if (type.isPrimitive() || Number.class.isAssignableFrom(type)) {
            return number(value, type, wanted);
        }
        return null;
    }

    private static Object bool(Object value, Type wanted) {
        if (value instanceof Boolean) {
            return value;
        }
        if (value instanceof Number) {
            return ((Number) value).intValue() != 0;
        }
        throw new Unsuitable(value, wanted);
    }

    private static Object constant(Object value, Class<?> type, Type wanted) {
        for (Object constant : type.getEnumConstants()) {
            if (((Enum<?>) constant).name().equals(value)) {
                return constant;
            }
        }
        throw new Unsuitable(value, wanted);
    }

    /** Milliseconds of Unix time, or ISO 8601. */
    private static Object moment(Object value, Class<?> type, Type wanted) {
        try {
            Instant at = value instanceof Number
                    ? Instant.ofEpochMilli(((Number) value).longValue())
                    : Instant.parse(value.toString());
            return type == Date.class ? Date.from(at) : at;
        } catch (RuntimeException error) {
            throw new Unsuitable(value, wanted);
        }
    }

    private static Object number(Object value, Class<?> type, Type wanted) {
        BigDecimal number;
        try {
            number = new BigDecimal(value.toString());
        } catch (NumberFormatException error) {
            throw new Unsuitable(value, wanted);
        }
        if (type == int.class || type == Integer.class) {
            return number.intValue();
        }
        if (type == long.class || type == Long.class) {
            return number.longValue();
        }
        if (type == double.class || type == Double.class) {
            return number.doubleValue();
        }
        if (type == float.class || type == Float.class) {
            return number.floatValue();
        }
        if (type == short.class || type == Short.class) {
            return number.shortValue();
        }
        if (type == byte.class || type == Byte.class) {
            return number.byteValue();
        }
        return type == BigInteger.class ? number.toBigInteger() : number;
    }

    private static Object array(Object value, Type of, Type wanted) {
        if (!(value instanceof List)) {
            throw new Unsuitable(value, wanted);
        }
        List<?> items = (List<?>) value;
        Object array = Array.newInstance(Types.raw(of), items.size());
        for (int i = 0; i < items.size(); i++) {
            Array.set(array, i, bind(items.get(i), of));
        }
        return array;
    }

    private static Object collection(Object value, Class<?> type, Type wanted) {
        if (!(value instanceof List)) {
            throw new Unsuitable(value, wanted);
        }
        Collection<Object> items;
        if (type.isAssignableFrom(ArrayList.class)) {
            items = new ArrayList<>();
        } else if (type.isAssignableFrom(LinkedHashSet.class) || type == Set.class) {
            items = new LinkedHashSet<>();
        } else if (type.isAssignableFrom(ArrayDeque.class)) {
            items = new ArrayDeque<>();
        } else {
            items = cast(made(type, value, wanted));
        }
        for (Object item : (List<?>) value) {
            items.add(bind(item, Types.argument(wanted, 0)));
        }
        return items;
    }

    private static Object map(Object value, Class<?> type, Type wanted) {
        if (!(value instanceof Map)) {
            throw new Unsuitable(value, wanted);
        }
        Map<Object, Object> map =
                type.isAssignableFrom(LinkedHashMap.class) ? new LinkedHashMap<>() : cast(made(type, value, wanted));
        Type keys = Types.argument(wanted, 0);
        Type values = Types.argument(wanted, 1);
        ((Map<?, ?>) value).forEach((key, item) -> map.put(bind(key, keys), bind(item, values)));
        return map;
    }

    private static Object object(Object value, Class<?> type, Type wanted) {
        if (!(value instanceof Map)) {
            throw new Unsuitable(value, wanted);
        }
        Map<?, ?> fields = (Map<?, ?>) value;
        if (Properties.isRecord(type)) {
            return record(fields, type, wanted);
        }
        Object object = made(type, value, wanted);
        fields.forEach((name, item) -> set(object, type, name.toString(), item, wanted));
        return object;
    }

    private static void set(Object object, Class<?> type, String name, Object value, Type wanted) {
        try {
            Method setter = Properties.setter(type, name);
            if (setter != null) {
                setter.setAccessible(true);
                setter.invoke(object, bind(value, setter.getGenericParameterTypes()[0]));
                return;
            }
            Field field = type.getField(name);
            if (!Modifier.isFinal(field.getModifiers()) && !Modifier.isStatic(field.getModifiers())) {
                field.setAccessible(true);
                field.set(object, bind(value, field.getGenericType()));
            }
        } catch (NoSuchFieldException none) {
            return; // it has no place for it
        } catch (IllegalAccessException | InvocationTargetException error) {
            throw new Unsuitable(value, wanted);
        }
    }

    private static Object record(Map<?, ?> fields, Class<?> type, Type wanted) {
        List<Field> components = Properties.components(type);
        Class<?>[] types = new Class<?>[components.size()];
        Object[] values = new Object[components.size()];
        for (int i = 0; i < values.length; i++) {
            types[i] = components.get(i).getType();
            values[i] = bind(fields.get(components.get(i).getName()), components.get(i).getGenericType());
        }
        try {
            Constructor<?> constructor = type.getDeclaredConstructor(types);
            constructor.setAccessible(true);
            return constructor.newInstance(values);
        } catch (ReflectiveOperationException error) {
            throw new Unsuitable(fields, wanted);
        }
    }

    private static Object made(Class<?> type, Object value, Type wanted) {
        try {
            Constructor<?> constructor = type.getDeclaredConstructor();
            constructor.setAccessible(true);
            return constructor.newInstance();
        } catch (ReflectiveOperationException | RuntimeException error) {
            throw new Unsuitable(value, wanted);
        }
    }

    @SuppressWarnings("unchecked")
    private static <T> T cast(Object object) {
        return (T) object;
    }
}
