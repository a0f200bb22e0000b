package shop;

/** Cannot be made. */
public class Broken {
    public Broken() {
        throw new UnsupportedOperationException("not today");
    }

    public String handle() {
        return "";
    }
}
