package lambent;

import java.io.File;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The function's classes: the root of its ZIP, its lib/*.jar, then those of its layers. */
final class UserCode {
    private UserCode() {}

    static ClassLoader loader() throws MalformedURLException {
        File root = new File(System.getenv("LAMBDA_TASK_ROOT"));
        List<URL> urls = new ArrayList<>();
        urls.add(root.toURI().toURL());
        addJars(new File(root, "lib"), urls);
        addJars(new File(System.getenv("LAMBENT_LAYERS_JAVA")), urls);
        ClassLoader loader = new URLClassLoader(urls.toArray(new URL[0]), Main.class.getClassLoader());
        Thread.currentThread().setContextClassLoader(loader);
        return loader;
    }

    private static void addJars(File folder, List<URL> urls) throws MalformedURLException {
        File[] jars = folder.listFiles((in, name) -> name.endsWith(".jar"));
        if (jars != null) {
            Arrays.sort(jars);
            for (File jar : jars) {
                urls.add(jar.toURI().toURL());
            }
        }
    }
}
