package greeting;

/** What a layer brings. */
public final class Greeting {
    public static final String TEXT = String.valueOf("from the layer"); // so that nobody has it compiled in

    private Greeting() {}
}
