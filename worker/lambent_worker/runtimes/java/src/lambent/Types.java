package lambent;

import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.util.HashMap;
import java.util.Map;

/** What type variables stand for. */
final class Types {
    private Types() {}

    /** `type`, which occurs in `user` or in what that extends, as `user` sees it. */
    static Type resolved(Type type, Class<?> user) {
        Map<TypeVariable<?>, Type> known = new HashMap<>();
        learn(user, known);
        Type result = type;
        while (result instanceof TypeVariable && known.containsKey(result)) {
            result = known.get(result);
        }
        return result instanceof TypeVariable ? ((TypeVariable<?>) result).getBounds()[0] : result;
    }

    private static void learn(Class<?> type, Map<TypeVariable<?>, Type> known) {
        for (Type parent : type.getGenericInterfaces()) {
            learnFrom(parent, known);
        }
        if (type.getGenericSuperclass() != null) {
            learnFrom(type.getGenericSuperclass(), known);
        }
    }

    private static void learnFrom(Type parent, Map<TypeVariable<?>, Type> known) {
        if (parent instanceof ParameterizedType) {
            ParameterizedType generic = (ParameterizedType) parent;
            TypeVariable<?>[] names = ((Class<?>) generic.getRawType()).getTypeParameters();
            for (int i = 0; i < names.length; i++) {
                known.put(names[i], generic.getActualTypeArguments()[i]);
            }
        }
        learn(raw(parent), known);
    }

    static Class<?> raw(Type type) {
        if (type instanceof Class) {
            return (Class<?>) type;
        }
        if (type instanceof ParameterizedType) {
            return (Class<?>) ((ParameterizedType) type).getRawType();
        }
        if (type instanceof WildcardType) {
            return raw(((WildcardType) type).getUpperBounds()[0]);
        }
        return Object.class;
    }

    /** The type of what is in a collection or a map. */
    static Type argument(Type type, int index) {
        if (type instanceof ParameterizedType) {
            Type[] arguments = ((ParameterizedType) type).getActualTypeArguments();
            return index < arguments.length ? arguments[index] : Object.class;
        }
        return Object.class;
    }
}
