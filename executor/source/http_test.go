package source

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// vault is Secrets in memory.
type vault map[string]string

func (v vault) Secret(id string) ([]byte, bool, error) {
	s, ok := v[id]
	return []byte(s), ok, nil
}

func (v vault) SSH(id string) (string, bool, error) {
	s, ok := v["ssh "+id]
	return s, ok, nil
}

// get downloads into a fresh file and returns its content.
func get(t *testing.T, c *Client, address, etag string) (string, File, bool, error) {
	t.Helper()
	c.backoff = 0
	out, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteString("what was there before, and longer"); err != nil {
		t.Fatal(err)
	}
	f, unchanged, err := c.Get(t.Context(), address, etag, out, nil)
	data, rerr := os.ReadFile(out.Name())
	if rerr != nil {
		t.Fatal(rerr)
	}
	return string(data), f, unchanged, err
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestDownload(t *testing.T) {
	modified := time.Date(2015, 5, 5, 0, 0, 0, 0, time.UTC)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") == "gzip" {
			t.Error("asked for a compressed transfer, which changes the bytes of archives")
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, "content")
	})
	data, f, unchanged, err := get(t, NewClient(vault{}), s.URL, "")
	if err != nil || unchanged || data != "content" || f.Size != 7 || f.ETag != `"1"` || !f.Modified.Equal(modified) {
		t.Errorf("got %q %+v %v %v", data, f, unchanged, err)
	}
	if _, _, unchanged, err := get(t, NewClient(vault{}), s.URL, `"1"`); err != nil || !unchanged {
		t.Errorf("known: got %v %v, want that it is unchanged", unchanged, err)
	}
	if data, _, unchanged, err := get(t, NewClient(vault{}), s.URL, `"0"`); err != nil || unchanged || data != "content" {
		t.Errorf("changed: got %q %v %v", data, unchanged, err)
	}
}

func TestRefusalsSayStatusAndAddressAndNoMore(t *testing.T) {
	for _, status := range []int{401, 403, 404, 410, 500, 503} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		address := strings.Replace(s.URL, "http://", "http://user:hidden@", 1) + "/file?token=hidden"
		_, _, _, err := get(t, NewClient(vault{}), address, "")
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Status != status {
			t.Fatalf("%d: got %v", status, err)
		}
		want := s.URL + "/file: "
		if !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("got %q, want it to begin with %q", err, want)
		}
		if advice := status == 401 || status == 403; advice != strings.Contains(remote.Hint(), "--secret id=HTTP_AUTH_TOKEN_127.0.0.1") {
			t.Errorf("%d: hint %q", status, remote.Hint())
		}
	}
}

func TestPassingFailuresAreTriedAgain(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2: // ends in the middle
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
		default:
			io.WriteString(w, "whole")
		}
	})
	if data, _, _, err := get(t, NewClient(vault{}), s.URL, ""); err != nil || data != "whole" {
		t.Errorf("got %q %v", data, err)
	}
}

func TestTruncatedDownloadIsAnError(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "half")
	})
	if _, _, _, err := get(t, NewClient(vault{}), s.URL, ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestDownloadsAreLimited(t *testing.T) {
	for _, declared := range []bool{true, false} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if !declared {
				w.(http.Flusher).Flush()
			}
			io.WriteString(w, strings.Repeat("x", 101))
		})
		c := NewClient(vault{})
		c.limit = 100
		if _, _, _, err := get(t, c, s.URL, ""); err == nil || !strings.Contains(err.Error(), "larger than 100 bytes") {
			t.Errorf("declared %v: got %v", declared, err)
		}
	}
}

func TestStalledDownloadIsGivenUp(t *testing.T) {
	stop := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "a little")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	})
	defer close(stop)
	c := NewClient(vault{})
	c.stall = 50 * time.Millisecond
	if _, _, _, err := get(t, c, s.URL, ""); !errors.Is(err, errStalled) {
		t.Errorf("got %v, want %v", err, errStalled)
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	s := serve(t, nil)
	s.Close()
	_, _, _, err := get(t, NewClient(vault{}), s.URL, "")
	var remote *RemoteError
	if !errors.As(err, &remote) || !strings.Contains(err.Error(), "cannot be reached") || remote.Hint() == "" {
		t.Errorf("got %v", err)
	}
}

// Credentials go to the host of their name, and along no redirection to another.
func TestCredentialsGoToTheirHostOnly(t *testing.T) {
	var other []string
	foreign := serve(t, func(w http.ResponseWriter, r *http.Request) {
		other = append(other, r.Header.Get("Authorization"), r.Header.Get("Referer"), r.Header.Get("Cookie"))
	})
	foreignURL := strings.Replace(foreign.URL, "127.0.0.1", "localhost", 1)
	var got string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		if r.URL.Path == "/away" {
			http.Redirect(w, r, foreignURL, http.StatusFound)
		}
		if r.URL.Path == "/stay" {
			http.Redirect(w, r, "/f", http.StatusFound)
		}
	})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	const basicUser = "Basic dTpw"
	for _, c := range []struct {
		name    string
		secrets vault
		path    string
		user    string
		want    string
	}{
		{"none", vault{}, "/f", "", ""},
		{"token", vault{"HTTP_AUTH_TOKEN_127.0.0.1": "t\n"}, "/f", "", "Bearer t"},
		{"header", vault{"HTTP_AUTH_HEADER_127.0.0.1": "Basic x"}, "/f", "", "Basic x"},
		{"header before token", vault{"HTTP_AUTH_HEADER_127.0.0.1": "h", "HTTP_AUTH_TOKEN_127.0.0.1": "t"}, "/f", "", "h"},
		{"another host's", vault{"HTTP_AUTH_TOKEN_localhost": "t", "HTTP_AUTH_TOKEN_": "t", "HTTP_AUTH_TOKEN": "t"}, "/f", "", ""},
		{"user in the URL", vault{}, "/f", "u:p@", basicUser},
		{"a secret before the URL", vault{"HTTP_AUTH_TOKEN_127.0.0.1": "t"}, "/f", "u:p@", "Bearer t"},
		{"redirection on the host", vault{"HTTP_AUTH_TOKEN_127.0.0.1": "t"}, "/stay", "", "Bearer t"},
		{"user in the URL, redirection on the host", vault{}, "/stay", "u:p@", basicUser},
		{"redirection away", vault{"HTTP_AUTH_TOKEN_127.0.0.1": "t"}, "/away", "", "Bearer t"},
		{"user in the URL, redirection away", vault{}, "/away", "u:p@", basicUser},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, other = "", nil
			if _, _, _, err := get(t, NewClient(c.secrets), "http://"+c.user+u.Host+c.path+"?q=hidden", ""); err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if leak := strings.Join(other, ""); leak != "" {
				t.Errorf("the other host got %q", leak)
			}
			if strings.HasSuffix(c.path, "away") != (other != nil) {
				t.Errorf("other host: %q", other)
			}
		})
	}
	if _, _, _, err := get(t, NewClient(vault{"HTTP_AUTH_TOKEN_127.0.0.1": "a\nX: hidden"}), s.URL, ""); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("secret of two lines: got %v", err)
	}
}

func TestRedirectionsEnd(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	if _, _, _, err := get(t, NewClient(vault{}), s.URL, ""); err == nil || !strings.Contains(err.Error(), "redirections") {
		t.Errorf("got %v", err)
	}
	files := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	if _, _, _, err := get(t, NewClient(vault{}), files.URL, ""); err == nil {
		t.Error("a redirection to a local file was followed")
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:p@h:1/a%20b?q#f": "https://h:1/a%20b",
		"git@h:o/r.git?x#y":         "git@h:o/r.git",
		"ssh://u:p@h/r":             "ssh://h/r",
		"http://h/a\nb":             "http://h/a b",
	} {
		if got := Redact(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
