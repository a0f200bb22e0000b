# Entry of an instance. A handler is `script.ps1`, which is run for each event, or `script.ps1::Function`.
# Both find the event in $LambdaInput and the context in $LambdaContext; a function gets them as arguments too.

$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'

$client = [System.Net.Http.HttpClient]::new()
$client.Timeout = [System.Threading.Timeout]::InfiniteTimeSpan
$runtime = "http://$env:AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"

function Send-Lambent([string]$Path, [string]$Body, [string]$ErrorType) {
    $content = [System.Net.Http.StringContent]::new($Body, [System.Text.Encoding]::UTF8, 'application/json')
    if ($ErrorType) {
        $content.Headers.Add('Lambda-Runtime-Function-Error-Type', ($ErrorType -replace '[^ -~]', '?'))
    }
    $client.PostAsync("$runtime/$Path", $content).GetAwaiter().GetResult().Dispose()
}

function Format-LambentError($Record) {
    $exception = $Record.Exception
    while ($exception -is [System.Management.Automation.MethodInvocationException] -and $exception.InnerException) {
        $exception = $exception.InnerException
    }
    $frames = @("$($Record.ScriptStackTrace)" -split "`n" | Where-Object { $_ -and $_ -notlike '*bootstrap.ps1*' })
    [ordered]@{
        errorType    = $exception.GetType().Name
        errorMessage = $exception.Message
        stackTrace   = $frames
    }
}

function Send-LambentError([string]$Path, $Record) {
    $failure = Format-LambentError $Record
    [Console]::Out.WriteLine("[Error] $($failure.errorType): $($failure.errorMessage)`n$($failure.stackTrace -join "`n")")
    Send-Lambent $Path (ConvertTo-Json $failure -Depth 5 -Compress) $failure.errorType
}

function New-LambentContext($Headers) {
    $deadline = [DateTimeOffset]::FromUnixTimeMilliseconds([long]$Headers['Lambda-Runtime-Deadline-Ms'])
    $client = $Headers['Lambda-Runtime-Client-Context']
    $context = [PSCustomObject]@{
        AwsRequestId       = $Headers['Lambda-Runtime-Aws-Request-Id']
        InvokedFunctionArn = $Headers['Lambda-Runtime-Invoked-Function-Arn']
        FunctionName       = $env:AWS_LAMBDA_FUNCTION_NAME
        FunctionVersion    = $env:AWS_LAMBDA_FUNCTION_VERSION
        MemoryLimitInMB    = [int]$env:AWS_LAMBDA_FUNCTION_MEMORY_SIZE
        LogGroupName       = $env:AWS_LAMBDA_LOG_GROUP_NAME
        LogStreamName      = $env:AWS_LAMBDA_LOG_STREAM_NAME
        ClientContext      = if ($client) { ConvertFrom-Json $client } else { $null }
        Deadline           = $deadline
    }
    $context | Add-Member -MemberType ScriptProperty -Name RemainingTime -Value {
        $left = $this.Deadline - [DateTimeOffset]::UtcNow
        if ($left -gt [TimeSpan]::Zero) { $left } else { [TimeSpan]::Zero }
    }
    $context
}

try {
    $lambentScript, $lambentFunction = $env:_HANDLER -split '::', 2
    $lambentPath = Join-Path $env:LAMBDA_TASK_ROOT $lambentScript
    if (-not (Test-Path -PathType Leaf $lambentPath)) {
        throw [System.IO.FileNotFoundException]::new("The handler's script '$lambentScript' is not in the package")
    }
    if ($lambentFunction) {
        . $lambentPath
        $null = Get-Command -CommandType Function -Name $lambentFunction
    }
}
catch {
    Send-LambentError 'init/error' $_
    exit 1
}

while ($true) {
    $lambentCall = $client.GetAsync("$runtime/invocation/next").GetAwaiter().GetResult()
    $lambentHeaders = @{}
    foreach ($header in $lambentCall.Headers) {
        $lambentHeaders[$header.Key] = $header.Value -join ','
    }
    $lambentInvocation = "invocation/$($lambentHeaders['Lambda-Runtime-Aws-Request-Id'])"
    try {
        $lambentBody = $lambentCall.Content.ReadAsStringAsync().GetAwaiter().GetResult()
        $LambdaInput = ConvertFrom-Json $lambentBody -NoEnumerate
        $LambdaContext = New-LambentContext $lambentHeaders
        $lambentResult = if ($lambentFunction) {
            & $lambentFunction $LambdaInput $LambdaContext
        }
        else {
            & $lambentPath
        }
        $lambentAnswer = ConvertTo-Json -InputObject $lambentResult -Depth 100 -Compress
    }
    catch {
        Send-LambentError "$lambentInvocation/error" $_
        continue
    }
    Send-Lambent "$lambentInvocation/response" $lambentAnswer
}
