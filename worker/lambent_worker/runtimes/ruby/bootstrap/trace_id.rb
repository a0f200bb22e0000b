# frozen_string_literal: true

begin
  require 'fiddle'
rescue LoadError
  nil # a Ruby that was built without it
end

module LambentRuntime
  # The trace id of the running call, in the process's environment.
  #
  # ENV[]= ends in setenv, and glibc keeps every value that it was ever given there: with another one for each
  # call some 130 bytes a call, for as long as the process lives. So the entry is one of our own, given to putenv,
  # whose bytes are written over.
  module TraceId
    NAME = '_X_AMZN_TRACE_ID'
    ROOM = 1024

    if defined?(Fiddle)
      ENTRY = Fiddle::Pointer.malloc(ROOM)
      PUTENV = Fiddle::Function.new(Fiddle.dlopen(nil)['putenv'], [Fiddle::TYPE_VOIDP], Fiddle::TYPE_INT)
    end

    # For ENV, and for processes that are started from here on.
    def self.put(trace_id)
      entry = "#{NAME}=#{trace_id}\0"
      if trace_id.nil? || !defined?(PUTENV) || entry.bytesize > ROOM
        ENV[NAME] = trace_id
      else
        ENTRY[0, entry.bytesize] = entry
        PUTENV.call(ENTRY) # each time: the function may have taken it out
      end
    end
  end
end
