package lambent;

import com.amazonaws.services.lambda.runtime.Context;

/** The function: bytes in, bytes out. */
interface Handler {
    byte[] answer(byte[] event, Context context) throws Throwable;
}
