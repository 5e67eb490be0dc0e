package progress

import (
	"fmt"
	"time"
)

// render is the frame: a header, and each running step with its transfers and the end of its output, as far as the rows reach.
func (d *tty) render(now time.Time, columns, rows int) []string {
	total := max(d.total, d.finished+len(d.live))
	header := fmt.Sprintf("[+] %d/%d %s", d.finished, total, seconds(now.Sub(d.began)))
	frame := []string{clip(header, columns-1)}

	room := rows - 2 // the header, and the row of the cursor
	shown := d.live
	if len(shown) > room {
		shown = shown[:max(room-1, 0)]
	}
	share := d.share(shown, room-len(shown))
	for _, l := range shown {
		s := l.step
		frame = append(frame, row(columns, " => "+s.title(), seconds(now.Sub(s.began))))
		for _, line := range l.details(share) {
			frame = append(frame, clip(" => => "+line, columns-1))
		}
	}
	if hidden := len(d.live) - len(shown); hidden > 0 && room > 0 {
		frame = append(frame, clip(fmt.Sprintf(" => and %d more", hidden), columns-1))
	}
	return frame
}

// share is how many rows below each of the steps are free for details.
func (d *tty) share(shown []*live, free int) int {
	speaking := 0
	for _, l := range shown {
		if len(l.details(1)) > 0 {
			speaking++
		}
	}
	if speaking == 0 {
		return 0
	}
	return min(d.logLines, max(free, 0)/speaking)
}

// details are at most n lines: transfers first, then the end of the output, the line being written included.
func (l *live) details(n int) []string {
	var out []string
	for _, t := range l.transfers[:min(n, len(l.transfers))] {
		out = append(out, t.subject()+" "+t.amount())
	}
	var output []string
	tail := l.step.tail
	for _, line := range tail[max(len(tail)-n, 0):] {
		output = append(output, line.text)
	}
	for i := range l.step.streams {
		if partial := l.step.streams[i].partial(); partial != "" {
			output = append(output, partial)
		}
	}
	return append(out, output[max(len(output)-(n-len(out)), 0):]...)
}
