package com.amazonaws.services.lambda.runtime;

/** Nobody authenticates through Cognito here: both are null. */
public interface CognitoIdentity {
    String getIdentityId();

    String getIdentityPoolId();
}
