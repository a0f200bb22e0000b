package lambent;

import java.io.IOException;

/** The Runtime API cannot be reached: nobody is left to tell. */
final class ApiBroke extends IOException {
    private static final long serialVersionUID = 1;

    ApiBroke(String message) {
        super(message);
    }
}
