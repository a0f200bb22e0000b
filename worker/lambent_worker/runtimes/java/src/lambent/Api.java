package lambent;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/** The Runtime API over one connection that is kept alive, without the 100 ms that java.net.http takes to load. */
final class Api {
    private static final String PREFIX = " /2018-06-01/runtime/";

    private final String address;
    private Socket socket;
    private InputStream input;

    Api(String address) {
        this.address = address;
    }

    static final class Message {
        final Map<String, String> headers = new HashMap<>();
        byte[] body;

        /** By its name in lower case; null if there is none. */
        String header(String name) {
            return headers.get(name);
        }
    }

    /** Waits for the next event, however long. */
    Message next() throws IOException {
        return ask("GET", "invocation/next", null, "");
    }

    void close() throws IOException {
        socket.close();
    }

    void answer(String requestId, byte[] body) throws IOException {
        ask("POST", "invocation/" + requestId + "/response", body, "");
    }

    void failed(String requestId, Failure failure) throws IOException {
        post("invocation/" + requestId + "/error", failure);
    }

    void initFailed(Failure failure) throws IOException {
        post("init/error", failure);
    }

    private void post(String path, Failure failure) throws IOException {
        String type = failure.type.replaceAll("[^ -~]", "?");
        ask("POST", path, failure.json(), "Lambda-Runtime-Function-Error-Type: " + type + "\r\n");
    }

    private Message ask(String method, String path, byte[] body, String headers) throws IOException {
        StringBuilder head = new StringBuilder(method).append(PREFIX).append(path).append(" HTTP/1.1\r\nHost: ");
        head.append(address).append("\r\n").append(headers);
        if (body != null) {
            head.append("Content-Type: application/json\r\nContent-Length: ").append(body.length).append("\r\n");
        }
        byte[] start = head.append("\r\n").toString().getBytes(StandardCharsets.ISO_8859_1);
        connect();
        send(start, body);
        return read();
    }

    private void connect() throws IOException {
        if (socket == null) {
            int colon = address.lastIndexOf(':');
            InetAddress host = InetAddress.getByName(address.substring(0, colon));
            socket = new Socket(host, Integer.parseInt(address.substring(colon + 1)));
            socket.setTcpNoDelay(true);
            input = new BufferedInputStream(socket.getInputStream(), 64 * 1024);
        }
    }

    private void send(byte[] start, byte[] body) throws IOException {
        OutputStream output = socket.getOutputStream();
        if (body == null || body.length > 64 * 1024) {
            output.write(start);
            if (body != null) {
                output.write(body);
            }
            return;
        }
        byte[] all = new byte[start.length + body.length];
        System.arraycopy(start, 0, all, 0, start.length);
        System.arraycopy(body, 0, all, start.length, body.length);
        output.write(all);
    }

    private Message read() throws IOException {
        Message message = new Message();
        line();
        for (String line = line(); !line.isEmpty(); line = line()) {
            int colon = line.indexOf(':');
            message.headers.put(line.substring(0, colon).toLowerCase(Locale.ROOT), line.substring(colon + 1).trim());
        }
        int length = Integer.parseInt(message.headers.getOrDefault("content-length", "0"));
        message.body = new byte[length];
        for (int have = 0; have < length; ) {
            int count = input.read(message.body, have, length - have);
            if (count < 0) {
                throw new ApiBroke("the Runtime API has closed its connection");
            }
            have += count;
        }
        if ("close".equals(message.headers.get("connection"))) {
            socket.close();
            socket = null;
        }
        return message;
    }

    private String line() throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream(80);
        for (int next = input.read(); next != '\n'; next = input.read()) {
            if (next < 0) {
                throw new ApiBroke("the Runtime API has closed its connection");
            }
            if (next != '\r') {
                line.write(next);
            }
        }
        return new String(line.toByteArray(), StandardCharsets.ISO_8859_1);
    }
}
