// Package progress shows a person, or a program, what a running build does.
//
// The build reports Events; a Display turns them into bytes. Five displays exist:
//
//	plain    a log: one line per line of output, nothing cut, suited to CI
//	tty      a compact live view that redraws itself, suited to a terminal
//	quiet    nothing, except the last lines of a step that failed
//	none     nothing at all
//	rawjson  one JSON object per event, suited to programs
//
// Everything that comes from outside (step output, names, errors) is hostile: before it reaches a terminal, control characters and
// escape sequences are removed, except colours where colours are wanted.
//
// # The plain format
//
// A step speaks in groups of lines. A group opens with the step's name and closes with its outcome, or with "..." when another step
// takes the floor; an empty line follows it.
//
//	#7 [linux/arm64 build 3/7] RUN make
//	#7 [linux/arm64 build 3/7] 0.532 cc -c main.c
//	#7 DONE 1.2s
//
//	#8 [stage-1 2/4] COPY . .
//	#8 CACHED
//
// The number before an output line is seconds since the step began. When the name's bracket begins with a platform, as it does in a
// build for several, the bracket stands in front of each line of output; otherwise the line is "#7 0.532 cc -c main.c".
//
// # The rawjson format, version 1
//
// Each line is one object; fields that do not apply are absent. A reader must skip kinds and fields that it does not know. The version
// changes only when a field changes its meaning or goes away.
//
//	v          number   version of this format: 1
//	time       string   when it happened, RFC 3339 with nanoseconds, UTC
//	kind       string   planned, started, cached, output, done, failed, canceled, transfer, message, warning
//	step       string   id of the step, stable through the build ("#7"); absent when the event belongs to no step
//	name       string   started, cached: the step's display name; message, warning: the text
//	platforms  array    started, cached: the platforms the step is for ("linux/arm64")
//	emulated   boolean  started: the step's programs run under an emulator
//	total      number   planned: how many steps the build has
//	stream     string   output: "stdout" or "stderr"
//	data       string   output: the bytes as they came, base64; chunks may end anywhere, also inside a line or a character
//	error      string   failed, canceled: why
//	duration   number   cached, done, failed, canceled: seconds the step took
//	transfer   object   transfer: {"id": string, "verb": "pulling"|"extracting"|"pushing"|…, "current": bytes,
//	                    "total": bytes (absent: unknown), "done": boolean}
package progress
