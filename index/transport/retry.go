package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Retry says how often and how patiently a request is repeated. The zero value
// stands for the defaults.
type Retry struct {
	Attempts int           // in all; 0 stands for 5
	Base     time.Duration // before the second attempt, doubled each time, ±50 %; 0 stands for 500 ms
	Longest  time.Duration // a registry that asks for more than this is given up; 0 stands for 1 minute
}

func (r Retry) withDefaults() Retry {
	if r.Attempts == 0 {
		r.Attempts = 5
	}
	if r.Base == 0 {
		r.Base = 500 * time.Millisecond
	}
	if r.Longest == 0 {
		r.Longest = time.Minute
	}
	return r
}

// Wait pauses before the next attempt, attempts having failed so far, the last
// one with err. It returns false when there shall be no further attempt.
func (r Retry) Wait(ctx context.Context, attempts int, err error) bool {
	r = r.withDefaults()
	if attempts >= r.Attempts || !Temporary(err) {
		return false
	}
	pause := min(r.Base<<(attempts-1), r.Longest)
	pause = pause/2 + rand.N(pause)
	var refused *Error
	if errors.As(err, &refused) && refused.retryAfter > 0 {
		if refused.retryAfter > r.Longest {
			return false
		}
		pause = max(pause, refused.retryAfter)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Temporary reports whether err is a failure that may be gone the next time:
// a broken connection, an overloaded or limiting server.
func Temporary(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case 0:
		return e.kind() == ErrUnreachable && !permanent(e.Err)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3): seconds or a
// date. Zero: absent or nonsense.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(0, min(seconds, 1<<20))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}
