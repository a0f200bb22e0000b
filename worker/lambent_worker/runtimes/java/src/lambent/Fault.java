package lambent;

/** A failure with a name of Lambda's own. */
final class Fault extends RuntimeException {
    private static final long serialVersionUID = 1;

    final String type;

    Fault(String type, String message) {
        super(message);
        this.type = type;
    }
}
