package progress

import "io"

// sink writes until the first error and remembers that.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) write(p []byte) {
	if s.err != nil || len(p) == 0 {
		return
	}
	_, s.err = s.w.Write(p)
}
