# frozen_string_literal: true

module LambentRuntime
  # Loads the function, then answers one event after another.
  class Runtime
    def initialize(api)
      @api = api
    end

    def run
      handler = load
      loop do
        headers, body = @api.next_event
        TraceId.put(headers['lambda-runtime-trace-id'])
        answer(handler, headers, body)
      end
    end

    private

    # Who exits on purpose ends the runtime; whatever else is raised is an error of the function.
    def load
      Loader.load(ENV.fetch('_HANDLER'))
    rescue SystemExit
      raise
    rescue Exception => e
      failure = Failure.of(e, 'Init')
      Failure.log(failure, 'Init')
      @api.init_failed(failure)
      exit!(1)
    end

    def answer(handler, headers, body)
      request_id = headers['lambda-runtime-aws-request-id']
      begin
        result = handler.call(event(body), Context.new(headers))
        answer, content_type = marshal(result)
      rescue SystemExit
        raise
      rescue Exception => e
        failure = Failure.of(e, 'Function')
        Failure.log(failure, 'Function')
        return @api.failed(request_id, failure)
      end
      @api.answer(request_id, answer, content_type)
    end

    def event(body)
      JSON.parse(body.force_encoding(Encoding::UTF_8))
    rescue JSON::ParserError => e
      raise Fault.new('Runtime.UnmarshalError', "Unable to unmarshal input: #{e.message}")
    end

    # As on Lambda, what can be read from is the answer as it is.
    def marshal(result)
      return [result.read, 'application/unknown'] if result.respond_to?(:read)

      [JSON.generate(result), 'application/json']
    end
  end
end
