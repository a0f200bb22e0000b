package lambent;

import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * A process that waits to be told whom it is for, by the frame ["specialise"]: docs/instance.md, "The wire".
 *
 * <p>Java has no way to change its environment: this needs java.base/java.util and java.io opened to it. Its
 * folder it cannot change at all.
 */
final class Parked {
    private Parked() {}

    /** Blocks until it is told. A channel that ends instead ends the process. */
    static void specialise(int fd) throws IOException, ReflectiveOperationException {
        Rehearsal.run();
        Map<Object, Object> environment = environment();
        byte[] frame;
        try (DataInputStream channel = new DataInputStream(new FileInputStream(descriptor(fd)))) {
            frame = new byte[channel.readInt()];
            channel.readFully(frame);
        } catch (EOFException end) {
            System.exit(0);
            return;
        }
        int head = 2 + ((frame[0] & 0xff) << 8 | frame[1] & 0xff);
        String body = new String(frame, head, frame.length - head, StandardCharsets.UTF_8);
        Map<?, ?> told = (Map<?, ?>) Json.read(body);
        environment.clear();
        environment.putAll((Map<?, ?>) told.get("environment"));
    }

    private static FileDescriptor descriptor(int fd) throws ReflectiveOperationException {
        Constructor<FileDescriptor> constructor = FileDescriptor.class.getDeclaredConstructor(int.class);
        constructor.setAccessible(true);
        return constructor.newInstance(fd);
    }

    @SuppressWarnings("unchecked")
    private static Map<Object, Object> environment() throws ReflectiveOperationException {
        Map<String, String> shown = System.getenv();
        Field beneath = shown.getClass().getDeclaredField("m");
        beneath.setAccessible(true);
        return (Map<Object, Object>) beneath.get(shown);
    }
}
