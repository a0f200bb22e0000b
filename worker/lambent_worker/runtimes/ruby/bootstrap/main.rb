# frozen_string_literal: true

# Entry of an instance. Nothing but Ruby's own library is loaded.

require_relative 'api'
require_relative 'context'
require_relative 'failure'
require_relative 'loader'
require_relative 'runtime'
require_relative 'trace_id'

$stdout.sync = true
$stderr.sync = true

LambentRuntime::Runtime.new(LambentRuntime::Api.new(ENV.fetch('AWS_LAMBDA_RUNTIME_API'))).run
