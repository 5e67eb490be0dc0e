package transport_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"mbuild/index/registrytest"
	"mbuild/index/transport"
)

const secret = "correct-horse"

// keys is a keychain with one user for every host.
type keys authn.AuthConfig

func (k keys) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig(k)), nil
}

var quick = transport.Retry{Attempts: 4, Base: time.Millisecond, Longest: 20 * time.Millisecond}

func client(t *testing.T, e transport.Endpoint, k authn.Keychain) *transport.Client {
	t.Helper()
	c, err := transport.New(e, transport.Options{Keychain: k, Retry: quick})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func getBlob(ctx context.Context, c *transport.Client, d string) (string, error) {
	resp, err := c.Do(ctx, transport.Request{Method: http.MethodGet, Repository: "app", Path: "blobs/" + d})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

func TestCredentialsAreSentWhenAskedFor(t *testing.T) {
	for name, test := range map[string]struct {
		options registrytest.Options
		keys    authn.Keychain
		want    error
	}{
		"none needed":               {registrytest.Options{}, nil, nil},
		"basic":                     {registrytest.Options{User: "u", Password: secret}, keys{Username: "u", Password: secret}, nil},
		"basic, wrong":              {registrytest.Options{User: "u", Password: secret}, keys{Username: "u", Password: "x"}, transport.ErrUnauthorized},
		"basic, none":               {registrytest.Options{User: "u", Password: secret}, nil, transport.ErrUnauthorized},
		"token, anonymous":          {registrytest.Options{Tokens: true}, nil, nil},
		"token":                     {registrytest.Options{Tokens: true, User: "u", Password: secret}, keys{Username: "u", Password: secret}, nil},
		"token, wrong":              {registrytest.Options{Tokens: true, User: "u", Password: secret}, keys{Username: "u", Password: "x"}, transport.ErrUnauthorized},
		"token, used up every time": {registrytest.Options{Tokens: true, TokenUses: 1}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t, test.options)
			d := s.AddBlob("app", []byte("hello"))
			c := client(t, transport.Endpoint{Name: s.Host}, test.keys)
			for range 3 {
				got, err := getBlob(t.Context(), c, d.String())
				if !errors.Is(err, test.want) || err == nil && got != "hello" {
					t.Fatalf("got %q, %v; want error %v", got, err, test.want)
				}
				if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "dTp")) {
					t.Errorf("error shows credentials: %v", err)
				}
			}
		})
	}
}

func TestOneTokenServesManyRequests(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{Tokens: true})
	d := s.AddBlob("app", []byte("hello"))
	c := client(t, transport.Endpoint{Name: s.Host}, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := getBlob(t.Context(), c, d.String()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.Count("/token"); n != 1 {
		t.Errorf("asked for %d tokens, want 1", n)
	}
}

func TestIdentityTokenIsExchangedByPost(t *testing.T) {
	var form string
	s := registrytest.New(t, registrytest.Options{Tokens: true, Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			r.ParseForm()
			form = r.Method + " " + r.PostForm.Get("grant_type") + " " + r.PostForm.Get("refresh_token") + " " + r.PostForm.Get("scope")
		}
		return false
	}})
	d := s.AddBlob("app", []byte("hello"))
	if _, err := getBlob(t.Context(), client(t, transport.Endpoint{Name: s.Host}, keys{IdentityToken: "idt"}), d.String()); err != nil {
		t.Fatal(err)
	}
	if want := "POST refresh_token idt repository:app:pull"; form != want {
		t.Errorf("token request was %q, want %q", form, want)
	}
}

func TestRedirectToAnotherHostCarriesNoCredentials(t *testing.T) {
	var leaked atomic.Value
	other := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		leaked.Store(r.Header.Get("Authorization") + r.Header.Get("Referer"))
		return false
	}})
	s := registrytest.New(t, registrytest.Options{User: "u", Password: secret, BlobsAt: other.URL})
	d := s.AddBlob("app", []byte("hello"))
	other.AddBlob("app", []byte("hello"))
	got, err := getBlob(t.Context(), client(t, transport.Endpoint{Name: s.Host}, keys{Username: "u", Password: secret}), d.String())
	if err != nil || got != "hello" {
		t.Fatalf("got %q, %v", got, err)
	}
	if l := leaked.Load(); l != "" {
		t.Errorf("the other host got %q", l)
	}
}

func TestCredentialsDoNotGoToSuspiciousTokenServers(t *testing.T) {
	for name, realm := range map[string]string{
		"link-local": "http://169.254.169.254/token",
		"no scheme":  "/token",
		"odd scheme": "ftp://auth.example/token",
		"with user":  "http://a:b@auth.example/token",
		"none":       "",
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}})
			_, err := getBlob(t.Context(), client(t, transport.Endpoint{Name: s.Host}, nil), "x")
			if err == nil || !strings.Contains(err.Error(), "token server") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTokenServerWithoutTLSIsRefusedBySecureRegistry(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{TLS: true, Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://auth.example/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}})
	_, err := getBlob(t.Context(), client(t, transport.Endpoint{Name: s.Host, Insecure: true}, nil), "x")
	if err == nil || !strings.Contains(err.Error(), "https only") {
		t.Errorf("got %v", err)
	}
}

func TestTemporaryFailuresAreRetried(t *testing.T) {
	for name, test := range map[string]struct {
		fail  func(http.ResponseWriter)
		times int
		want  error
		tries int
	}{
		"503 twice":             {func(w http.ResponseWriter) { w.WriteHeader(503) }, 2, nil, 3},
		"429 with Retry-After":  {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) }, 3, nil, 4},
		"429 for ever":          {func(w http.ResponseWriter) { w.WriteHeader(429) }, 99, transport.ErrRateLimited, 4},
		"429, too long a wait":  {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "3600"); w.WriteHeader(429) }, 99, transport.ErrRateLimited, 1},
		"403 is no such":        {func(w http.ResponseWriter) { w.WriteHeader(403) }, 99, transport.ErrUnauthorized, 1},
		"404 is no such":        {func(w http.ResponseWriter) { w.WriteHeader(404) }, 99, transport.ErrNotFound, 1},
		"connection cut, twice": {cut, 2, nil, 3},
		"connection always cut": {cut, 99, transport.ErrUnreachable, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var tries atomic.Int32
			s := registrytest.New(t, registrytest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/" {
					return false
				}
				if int(tries.Add(1)) > test.times {
					return false
				}
				test.fail(w)
				return true
			}})
			d := s.AddBlob("app", []byte("hello"))
			got, err := getBlob(t.Context(), client(t, transport.Endpoint{Name: s.Host}, nil), d.String())
			if !errors.Is(err, test.want) || err == nil && got != "hello" {
				t.Errorf("got %q, %v; want error %v", got, err, test.want)
			}
			if int(tries.Load()) != test.tries && name != "connection cut, twice" && name != "connection always cut" {
				t.Errorf("got %d tries, want %d", tries.Load(), test.tries)
			}
		})
	}
}

// cut ends the connection without an answer. net/http itself repeats a GET on a
// reused connection then, so the number of tries is not ours alone.
func cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

func TestNobodyListening(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	_, err = getBlob(t.Context(), client(t, transport.Endpoint{Name: host}, nil), "x")
	if !errors.Is(err, transport.ErrUnreachable) || !strings.Contains(err.Error(), host) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledRequestIsNotCalledUnreachable(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := getBlob(ctx, client(t, transport.Endpoint{Name: s.Host}, nil), "x")
	if !errors.Is(err, context.Canceled) || errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestTrust(t *testing.T) {
	s := registrytest.New(t, registrytest.Options{TLS: true})
	d := s.AddBlob("app", []byte("hello"))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		endpoint transport.Endpoint
		want     error
	}{
		"unknown authority": {transport.Endpoint{}, transport.ErrCertificate},
		"insecure":          {transport.Endpoint{Insecure: true}, nil},
		"authority given":   {transport.Endpoint{CA: ca}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			test.endpoint.Name = s.Host
			_, err := getBlob(t.Context(), client(t, test.endpoint, nil), d.String())
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			var e *transport.Error
			if err != nil && (!errors.As(err, &e) || !strings.Contains(e.Hint(), "--registry-certificate "+s.Host)) {
				t.Errorf("no hint in %v", err)
			}
		})
	}
	if _, err := transport.New(transport.Endpoint{Name: "x", CA: os.DevNull}, transport.Options{}); err == nil {
		t.Error("an empty certificate file was accepted")
	}
}

func TestPlainHTTPNeedsPermissionBeyondLoopback(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	// The name is not a loopback one, the address it is reached at is.
	e := transport.Endpoint{Name: "registry.example", Address: "0.0.0.0:" + port}
	_, err := getBlob(t.Context(), client(t, e, nil), "x")
	var refused *transport.Error
	if !errors.As(err, &refused) || !strings.Contains(refused.Hint(), "--insecure-registry") {
		t.Errorf("got %v, want advice to allow plain HTTP", err)
	}
	e.Insecure = true
	if _, err = getBlob(t.Context(), client(t, e, nil), "x"); !errors.Is(err, transport.ErrNotFound) {
		t.Errorf("insecure: got %v, want not found", err)
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.3.2.1:5000": true, "[::1]:5000": true, "[::1]": true,
		"localhost.example": false, "10.0.0.1:5000": false, "registry.local": false, "127.0.0.1.example": false,
	} {
		if got := transport.IsLoopback(host); got != want {
			t.Errorf("%s: got %v", host, got)
		}
	}
}
