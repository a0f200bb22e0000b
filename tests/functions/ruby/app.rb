# The function that every language has: tests/integration/worker/runtimes has the table.

$count = 0

def fail_now
  raise ArgumentError, 'no luck'
end

def note(event)
  path = "#{ENV['TMPDIR']}/kept"
  File.open(path, 'a') { |file| file.write(event['text']) }
  File.read(path)
end

def layer
  require 'greeting'
  Greeting::TEXT
end

def asleep
  puts 'asleep'
  sleep 600
end

def hog
  hoard = []
  loop { hoard << ('x' * (1 << 20)) }
end

def facts(context)
  puts 'a line'
  {
    request: context.aws_request_id,
    arn: context.invoked_function_arn,
    function: context.function_name,
    version: context.function_version,
    memory: context.memory_limit_in_mb.to_i,
    remaining: context.get_remaining_time_in_millis,
    client: context.client_context['custom']['k'],
    trace: ENV['_X_AMZN_TRACE_ID']
  }
end

def handler(event:, context:)
  case event['do']
  when 'hello' then { hello: event['name'] }
  when 'echo' then event['data']
  when 'crash' then exit!(3)
  when 'count' then $count += 1
  when 'fail' then fail_now
  when 'note' then note(event)
  when 'layer' then layer
  when 'sleep' then asleep
  when 'hog' then hog
  when 'facts' then facts(context)
  end
end

module Shop
  class Till
    def self.ring(event:, context:)
      "till #{event}"
    end
  end
end
