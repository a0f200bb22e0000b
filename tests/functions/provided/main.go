// The function that every language has, with a runtime of its own: net/http and nothing else.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"
)

type event struct{ Do, Name, Text, Data string }

var (
	api   = "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/"
	count = 0
)

func post(path string, value any) {
	body, _ := json.Marshal(value)
	answer, err := http.Post(api+path, "application/json", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
}

func note(text string) any {
	path := os.Getenv("TMPDIR") + "/kept"
	file, _ := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	file.WriteString(text)
	file.Close()
	all, _ := os.ReadFile(path)
	return string(all)
}

func facts(headers http.Header) any {
	fmt.Println("a line")
	deadline, _ := strconv.ParseInt(headers.Get("Lambda-Runtime-Deadline-Ms"), 10, 64)
	memory, _ := strconv.Atoi(os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))
	var client struct{ Custom struct{ K string } }
	json.Unmarshal([]byte(headers.Get("Lambda-Runtime-Client-Context")), &client)
	return map[string]any{
		"request":   headers.Get("Lambda-Runtime-Aws-Request-Id"),
		"arn":       headers.Get("Lambda-Runtime-Invoked-Function-Arn"),
		"function":  os.Getenv("AWS_LAMBDA_FUNCTION_NAME"),
		"version":   os.Getenv("AWS_LAMBDA_FUNCTION_VERSION"),
		"memory":    memory,
		"remaining": deadline - time.Now().UnixMilli(),
		"client":    client.Custom.K,
	}
}

func answer(e event, headers http.Header) any {
	switch e.Do {
	case "hello":
		return map[string]string{"hello": e.Name}
	case "echo":
		return e.Data
	case "crash":
		os.Exit(3)
	case "count":
		count++
		return count
	case "note":
		return note(e.Text)
	case "layer":
		text, _ := exec.Command("greeting").Output()
		return string(text)
	case "sleep":
		fmt.Println("asleep")
		time.Sleep(10 * time.Minute)
	case "hog":
		for hoard := [][]byte{}; ; {
			hoard = append(hoard, bytes.Repeat([]byte{1}, 1<<20))
		}
	case "facts":
		return facts(headers)
	}
	return nil
}

func main() {
	if os.Getenv("_HANDLER") == "broken" {
		post("init/error", map[string]string{"errorType": "Function.Broken", "errorMessage": "not today"})
		os.Exit(1)
	}
	for {
		next, err := http.Get(api + "invocation/next")
		if err != nil {
			panic(err)
		}
		var e event
		json.NewDecoder(next.Body).Decode(&e)
		next.Body.Close()
		call := "invocation/" + next.Header.Get("Lambda-Runtime-Aws-Request-Id")
		if e.Do == "fail" {
			frame := []string{"main.go: in answer"}
			post(call+"/error", map[string]any{"errorType": "Function.Failed", "errorMessage": "no luck", "stackTrace": frame})
			continue
		}
		post(call+"/response", answer(e, next.Header))
	}
}
