package lambent;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What an object consists of for others: a bean's properties, a record's components, public fields. */
final class Properties {
    private Properties() {}

    static boolean isRecord(Class<?> type) {
        return type.getSuperclass() != null && type.getSuperclass().getName().equals("java.lang.Record");
    }

    static List<Field> components(Class<?> record) {
        List<Field> components = new ArrayList<>();
        for (Field field : record.getDeclaredFields()) {
            if (!Modifier.isStatic(field.getModifiers())) {
                components.add(field);
            }
        }
        return components;
    }

    /** Null if there is none. */
    static Method setter(Class<?> type, String name) {
        for (Method method : type.getMethods()) {
            if (method.getParameterCount() == 1
                    && method.getName().startsWith("set")
                    && !method.isBridge()
                    && propertyOf(method.getName(), 3).equals(name)) {
                return method;
            }
        }
        return null;
    }

    static Map<String, Object> of(Object object) throws ReflectiveOperationException {
        Map<String, Object> found = new LinkedHashMap<>();
        Class<?> type = object.getClass();
        if (isRecord(type)) {
            for (Field field : components(type)) {
                Method accessor = type.getMethod(field.getName());
                accessor.setAccessible(true);
                found.put(field.getName(), accessor.invoke(object));
            }
            return found;
        }
        for (Field field : type.getFields()) {
            if (!Modifier.isStatic(field.getModifiers())) {
                field.setAccessible(true);
                found.put(field.getName(), field.get(object));
            }
        }
        for (Method method : type.getMethods()) {
            String name = property(method);
            if (name != null) {
                method.setAccessible(true);
                found.put(name, method.invoke(object));
            }
        }
        return found;
    }

    /** That a getter is of; null if it is none. */
    private static String property(Method method) {
        String name = method.getName();
        if (method.getParameterCount() > 0
                || Modifier.isStatic(method.getModifiers())
                || method.isBridge()
                || method.getDeclaringClass() == Object.class
                || method.getReturnType() == void.class) {
            return null;
        }
        if (name.startsWith("get") && name.length() > 3) {
            return propertyOf(name, 3);
        }
        return name.startsWith("is") && name.length() > 2 && method.getReturnType() == boolean.class
                ? propertyOf(name, 2)
                : null;
    }

    /** As getURL and getName: the capitals that it begins with become small ones, as Jackson does it. */
    private static String propertyOf(String method, int prefix) {
        char[] name = method.substring(prefix).toCharArray();
        for (int i = 0; i < name.length && Character.isUpperCase(name[i]); i++) {
            name[i] = Character.toLowerCase(name[i]);
        }
        return new String(name);
    }
}
