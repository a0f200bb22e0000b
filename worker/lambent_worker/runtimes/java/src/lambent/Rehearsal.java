package lambent;

import com.amazonaws.services.lambda.runtime.LambdaRuntime;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;

/**
 * What an instance does until its first answer, done once for nobody before it is parked: what has run once is
 * loaded. The event comes from a server of its own; nothing of it is left.
 */
final class Rehearsal {
    private static final String EVENT =
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: rehearsal\r\nLambda-Runtime-Deadline-Ms: 1\r\n"
                    + "Lambda-Runtime-Invoked-Function-Arn: a:b\r\nContent-Length: 13\r\n\r\n{\"a\":[1,\"b\"]}";
    private static final String TAKEN = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

    private Rehearsal() {}

    /** One that fails costs time, and a line in the log of whoever gets the process. */
    static void run() {
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            Thread answering = new Thread(() -> answer(server));
            answering.setDaemon(true);
            answering.start();
            for (String name : new String[] {"UserCode", "Failure", "Logger"}) {
                Class.forName("lambent." + name);
            }
            LambdaRuntime.setLogger(new Logger());
            Api api = new Api("127.0.0.1:" + server.getLocalPort());
            Main.answerOne(api, Handlers.load("lambent.Rehearsed::handle", loader()));
            api.close();
            answering.join();
        } catch (Throwable failed) {
            System.err.println("lambent: the rehearsal of a call failed: " + failed);
        }
    }

    /** Reads from a folder, as a function's does, what this process has among its own classes. */
    private static ClassLoader loader() throws IOException {
        URL classes = new File(System.getProperty("java.class.path")).toURI().toURL();
        return new URLClassLoader(new URL[] {classes}, ClassLoader.getPlatformClassLoader());
    }

    private static void answer(ServerSocket server) {
        byte[] request = new byte[4096];
        try (Socket socket = server.accept()) {
            for (String answer : new String[] {EVENT, TAKEN}) {
                socket.getInputStream().read(request);
                socket.getOutputStream().write(answer.getBytes(StandardCharsets.ISO_8859_1));
            }
        } catch (IOException failed) {
            return;
        }
    }
}
