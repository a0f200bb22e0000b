package lambent;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;

/** Finds what a handler names: {@code package.Class::method}, or {@code package.Class} of a handler interface. */
final class Handlers {
    private static final String OF_INTERFACE = "handleRequest";

    private Handlers() {}

    static Handler load(String name, ClassLoader loader) throws Throwable {
        String[] parts = name.split("::", -1);
        if (parts.length > 2 || parts[0].isEmpty()) {
            throw new Fault("Runtime.MalformedHandlerName", "Bad handler '" + name + "': it is not CLASS::METHOD");
        }
        Class<?> type = found(parts[0], loader);
        boolean isInterface =
                RequestHandler.class.isAssignableFrom(type) || RequestStreamHandler.class.isAssignableFrom(type);
        if (parts.length == 1 && !isInterface) {
            throw new Fault(
                    "Runtime.HandlerNotFound",
                    "Class " + type.getName() + " does not implement a handler interface, and no method was named");
        }
        Method method = method(type, parts.length == 2 ? parts[1] : OF_INTERFACE);
        method.setAccessible(true);
        Object target = Modifier.isStatic(method.getModifiers()) ? null : made(type);
        if (target == null) {
            Class.forName(type.getName(), true, loader);
        }
        return handler(type, method, target);
    }

    private static Class<?> found(String name, ClassLoader loader) throws ClassNotFoundException {
        try {
            return Class.forName(name, false, loader);
        } catch (ClassNotFoundException error) {
            throw new ClassNotFoundException("Class not found: " + name);
        }
    }

    private static Object made(Class<?> type) throws Throwable {
        try {
            return type.getConstructor().newInstance();
        } catch (NoSuchMethodException error) {
            throw new Fault(
                    "Runtime.HandlerNotFound", "Class " + type.getName() + " has no public zero-argument constructor");
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
    }

    /** Of several with that name the one with most parameters. */
    private static Method method(Class<?> type, String name) {
        Method best = null;
        for (Method found : type.getMethods()) {
            Method method = found.isBridge() && found.getName().equals(name) ? beneath(found) : found;
            if (method != null && method.getName().equals(name) && isCallable(method)) {
                if (best == null || method.getParameterCount() > best.getParameterCount()) {
                    best = method;
                }
            }
        }
        if (best == null) {
            throw new Fault(
                    "Runtime.HandlerNotFound",
                    "Class " + type.getName() + " has no public method '" + name + "' that an event can be given to");
        }
        return best;
    }

    /** The compiler makes a bridge to a method that takes a generic type, or to one of a class that is not public:
     * the latter has the types that are wanted. Null if it is the former, whose method is found by itself. */
    private static Method beneath(Method bridge) {
        for (Class<?> at = bridge.getDeclaringClass().getSuperclass(); at != null; at = at.getSuperclass()) {
            try {
                return at.getDeclaredMethod(bridge.getName(), bridge.getParameterTypes());
            } catch (NoSuchMethodException none) {
                continue;
            }
        }
        return null;
    }

    private static boolean isCallable(Method method) {
        Class<?>[] types = method.getParameterTypes();
        int count = types.length;
        return count == 0
                || count == 1
                || count == 2 && (types[1] == Context.class || isStream(types))
                || count == 3 && isStream(types) && types[2] == Context.class;
    }

    private static boolean isStream(Class<?>[] types) {
        return types.length >= 2 && types[0] == InputStream.class && types[1] == OutputStream.class;
    }

    private static Handler handler(Class<?> type, Method method, Object target) {
        Class<?>[] types = method.getParameterTypes();
        boolean withContext = types.length > 0 && types[types.length - 1] == Context.class;
        if (isStream(types)) {
            return (event, context) -> {
                ByteArrayOutputStream output = new ByteArrayOutputStream();
                InputStream input = new ByteArrayInputStream(event);
                call(method, target, withContext ? new Object[] {input, output, context} : new Object[] {input, output});
                return output.toByteArray();
            };
        }
        boolean withEvent = types.length > (withContext ? 1 : 0);
        Type wanted = withEvent ? Types.resolved(method.getGenericParameterTypes()[0], type) : null;
        return (event, context) -> {
            Object[] arguments = new Object[types.length];
            if (withEvent) {
                arguments[0] = read(event, wanted);
            }
            if (withContext) {
                arguments[types.length - 1] = context;
            }
            return write(call(method, target, arguments));
        };
    }

    private static Object call(Method method, Object target, Object[] arguments) throws Throwable {
        try {
            return method.invoke(target, arguments);
        } catch (InvocationTargetException error) {
            throw error.getCause();
        }
    }

    private static Object read(byte[] event, Type wanted) {
        try {
            return Binder.bind(Json.read(new String(event, StandardCharsets.UTF_8)), wanted);
        } catch (Json.Malformed | Binder.Unsuitable error) {
            throw new Fault("Runtime.UnmarshalError", "An error occurred during JSON parsing: " + error.getMessage());
        }
    }

    private static byte[] write(Object result) {
        try {
            return Json.write(result).getBytes(StandardCharsets.UTF_8);
        } catch (StackOverflowError error) {
            throw new Fault("Runtime.MarshalError", "The answer contains itself");
        }
    }
}
