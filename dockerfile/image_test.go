package dockerfile

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
)

// madeAt makes one layer per step, a minute apart.
func madeAt(s *Step) Made {
	return Made{
		DiffIDs: []digest.Digest{digest.FromString(fmt.Sprint(s.ID))},
		Created: time.Date(2024, 1, 1, 0, s.ID, 0, 0, time.FixedZone("here", 3600)),
	}
}

func configOf(t *testing.T, src string, o Options) map[string]any {
	t.Helper()
	p := planOf(t, src, o)
	raw, err := p.Results[len(p.Results)-1].ImageConfig(madeAt)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.Results[len(p.Results)-1].ImageConfig(madeAt)
	if err != nil || string(raw) != string(again) {
		t.Errorf("rendering twice differs: %s and %s (%v)", raw, again, err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestConfig compares the "config" member, without PATH.
func TestConfig(t *testing.T) {
	for _, tc := range []struct{ name, src, want string }{
		{"scratch has a PATH and a working directory", "FROM scratch\n", `{"WorkingDir":"/"}`},
		{"labels in all forms, the later wins", "FROM scratch\nENV v=val\nLABEL a=1 b=\"two words\" \"c.d\"='single' e=multi\\ word f=\"\"\nLABEL a=over\nLABEL old style $v\n",
			`{"WorkingDir":"/","Env":["v=val"],"Labels":{"a":"over","b":"two words","c.d":"single","e":"multi word","f":"","old":"style val"}}`},
		{"shell form goes through the shell of its time", "FROM busybox\nCMD one $X\nSHELL [\"/bin/ash\",\"-c\"]\nENTRYPOINT two\n",
			`{"ArgsEscaped":true,"Cmd":["/bin/sh","-c","one $X"],"Entrypoint":["/bin/ash","-c","two"],"Shell":["/bin/ash","-c"]}`},
		{"ENTRYPOINT drops the base's CMD", "FROM busybox\nENTRYPOINT [\"/e\"]\n", `{"Entrypoint":["/e"]}`},
		{"ENTRYPOINT keeps this stage's CMD", "FROM busybox\nCMD [\"own\"]\nENTRYPOINT [\"/e\"]\n", `{"ArgsEscaped":true,"Cmd":["own"],"Entrypoint":["/e"]}`},
		{"CMD of the parent stage counts as the base's", "FROM busybox AS p\nCMD [\"x\"]\nFROM p\nENTRYPOINT [\"/e\"]\n", `{"ArgsEscaped":true,"Entrypoint":["/e"]}`},
		{"empty ENTRYPOINT and CMD", "FROM busybox\nENTRYPOINT []\nCMD []\n", `{"ArgsEscaped":true}`},
		{"health check", "FROM busybox\nHEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --start-interval=2s --retries=7 CMD a || b\n",
			`{"Cmd":["/bin/sh"],"Healthcheck":{"Test":["CMD-SHELL","a || b"],"Interval":300000000000,"Timeout":3000000000,"StartPeriod":90000000000,"StartInterval":2000000000,"Retries":7}}`},
		{"no health check", "FROM busybox AS a\nHEALTHCHECK CMD x\nFROM a\nHEALTHCHECK NONE\n", `{"Cmd":["/bin/sh"],"Healthcheck":{"Test":["NONE"]}}`},
		{"ports", "FROM busybox\nARG P=\"81 82/udp\"\nEXPOSE 80 443/TCP $P\nEXPOSE 8000-8001 127.0.0.1:9:90\n",
			`{"Cmd":["/bin/sh"],"ExposedPorts":{"443/tcp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"81/tcp":{},"82/udp":{},"90/tcp":{}}}`},
		{"volumes, user, signal, working directory", "FROM busybox\nVOLUME /a [\"/b\"]\nVOLUME [\"/c\"]\nUSER 1:2\nSTOPSIGNAL 9\nWORKDIR /x/\nWORKDIR y\n",
			`{"Cmd":["/bin/sh"],"User":"1:2","StopSignal":"9","Volumes":{"/a":{},"[/b]":{},"/c":{}},"WorkingDir":"/x/y"}`},
		{"ENV keeps its place", "FROM busybox\nENV A=1 B=2\nENV A=3\nARG B=9\n", `{"Cmd":["/bin/sh"],"Env":["A=3","B=2"]}`},
		{"ONBUILD is recorded, with here-documents", "FROM busybox\nONBUILD RUN <<E\nx $Y\nE\nONBUILD ENV A=$B\n", `{"Cmd":["/bin/sh"],"OnBuild":["RUN <<E\nx $Y\nE","ENV A=$B"]}`},
		{"triggers are used up", "FROM triggers\n", `{"Cmd":["/bin/sh"],"WorkingDir":"/w"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := configOf(t, tc.src, options())["config"].(map[string]any)
			env := []any{}
			for _, kv := range got["Env"].([]any) {
				if !strings.HasPrefix(kv.(string), "PATH=") {
					env = append(env, kv)
				}
			}
			if got["Env"] = env; len(env) == 0 {
				delete(got, "Env")
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(strings.ReplaceAll(tc.want, "\n", `\n`)), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("config\n%v\nwant\n%v", got, want)
			}
		})
	}
}

// history writes the history above the base as lines "time L|e text", times as minutes.
func history(t *testing.T, config map[string]any) string {
	t.Helper()
	var b strings.Builder
	for _, h := range config["history"].([]any) {
		e := h.(map[string]any)
		if e["comment"] != historyComment {
			continue
		}
		kind := "L"
		if e["empty_layer"] == true {
			kind = "e"
		}
		when := "-"
		if c, ok := e["created"].(string); ok {
			when = strings.TrimSuffix(strings.TrimPrefix(c, "2023-12-31T23:"), ":00Z")
		}
		fmt.Fprintf(&b, "%s %s %s\n", when, kind, e["created_by"])
	}
	return b.String()
}

func TestHistory(t *testing.T) {
	for _, tc := range []struct{ name, src, want string }{
		{"texts as docker history shows them", "FROM busybox\nARG A=1\nARG N\nRUN x  y\nCMD [\"a\",\"b c\"]\nCOPY --chown=1 --chmod=644 --link --from=busybox a b /c\nWORKDIR /w\nWORKDIR /\nRUN [\"p\",\"q\"]\nEXPOSE 2 1\nVOLUME /v /u\nSHELL [\"s\",\"t\"]\nENV a=b c=\"d e\"\nLABEL l=m\nUSER u\nMAINTAINER me\nSTOPSIGNAL 9\nADD f /\nHEALTHCHECK --retries=7 CMD z\nENTRYPOINT z\nONBUILD RUN never\n", `
01 e ARG A=1
01 e ARG N
01 L RUN |2 A=1 N= /bin/sh -c x  y # buildkit
01 e CMD ["a" "b c"]
02 L COPY --chown=1 --chmod=644 a b /c # buildkit
03 L WORKDIR /w
03 e WORKDIR /
04 L RUN |2 A=1 N= p q # buildkit
04 e EXPOSE [1/tcp 2/tcp]
04 e VOLUME [/v /u]
04 e SHELL [s t]
04 e ENV a=b c=d e
04 e LABEL l=m
04 e USER u
04 e MAINTAINER me
04 e STOPSIGNAL 9
05 L ADD f / # buildkit
05 e HEALTHCHECK &{["CMD-SHELL" "z"] "0s" "0s" "0s" "0s" '\a'}
05 e ENTRYPOINT ["s" "t" "z"]
`},
		{"here-documents", "FROM scratch\nRUN <<E\na\nb\nE\nCOPY <<X f /d/\nx\nX\n", "\n00 L RUN /bin/sh -c a\nb\n # buildkit\n01 L COPY f <<X /d/ # buildkit\n"},
		{"the value of an ARG is the one in effect", "FROM scratch\nARG A=1\nENV A=2\nARG A=3 B=x\nENV B=y\nRUN x\n", `
00 e ARG A=1
00 e ENV A=2
00 e ARG A=3 B=x
00 e ENV B=y
00 L RUN |2 A=3 B=y /bin/sh -c x # buildkit
`},
		{"a child goes on where the parent stopped", "FROM scratch AS p\nCOPY a /\nLABEL x=y\nFROM p\nCOPY b /\n", "\n00 L COPY a / # buildkit\n00 e LABEL x=y\n01 L COPY b / # buildkit\n"},
		{"nothing but metadata on scratch has no time", "FROM scratch\nLABEL a=b\n", "\n- e LABEL a=b\n"},
		{"nothing but metadata has the base's time", "FROM busybox\nLABEL a=b\n", "\n2020-01-01T00:00 e LABEL a=b\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, want := history(t, configOf(t, tc.src, options())), tc.want[1:]; got != want {
				t.Errorf("history\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestEpochIsTheTimeOfEverythingNew(t *testing.T) {
	epoch := time.Unix(1700000000, 0)
	c := configOf(t, "FROM busybox\nCOPY a /\nLABEL x=y\n", options(func(o *Options) { o.Epoch = &epoch }))
	const want = "2023-11-14T22:13:20Z"
	if c["created"] != want {
		t.Errorf("created %v, want %s", c["created"], want)
	}
	h := c["history"].([]any)
	if got := h[0].(map[string]any)["created"]; got != "2020-01-01T00:00:00Z" {
		t.Errorf("the base's history was touched: %v", got)
	}
	for _, e := range h[1:] {
		if got := e.(map[string]any)["created"]; got != want {
			t.Errorf("history entry of %v, want %s", got, want)
		}
	}
}

func TestEpochOfAnUnchangedBaseIsAnUpperBound(t *testing.T) {
	for _, tc := range []struct {
		epoch time.Time
		want  string
	}{
		{time.Unix(0, 0), "1970-01-01T00:00:00Z"},
		{time.Unix(1700000000, 0), "2020-01-01T00:00:00Z"},
	} {
		c := configOf(t, "FROM busybox\n", options(func(o *Options) { o.Epoch = &tc.epoch }))
		if c["created"] != tc.want {
			t.Errorf("epoch %v: created %v, want %s", tc.epoch, c["created"], tc.want)
		}
	}
}

func TestBaseConfigIsKept(t *testing.T) {
	base := known()
	base.configs["odd"] = `{%s,"x.unknown":{"z":[1,2]},"author":"them","moby.buildkit.cache.v0":"stale","os.features":["f"],
		"config":{"Env":["A=1","PATH=/p"],"Cmd":["c"],"Healthcheck":{"Test":["CMD","t"],"StartInterval":5,"New":1},"Memory":7,"cmd2":null},
		"rootfs":{"type":"layers","diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]},
		"history":[{"created_by":"b","x":"kept"}]}`
	c := configOf(t, "FROM odd\nENV A=2\n", options(func(o *Options) { o.Images = base }))
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"architecture":"amd64","author":"them","config":{"Cmd":["c"],"Env":["A=2","PATH=/p"],"Healthcheck":{"New":1,"StartInterval":5,"Test":["CMD","t"]},"Memory":7,"cmd2":null},` +
		`"history":[{"created_by":"b","x":"kept"},{"comment":"buildkit.dockerfile.v0","created_by":"ENV A=2","empty_layer":true}],"os":"linux","os.features":["f"],` +
		`"rootfs":{"diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],"type":"layers"},"x.unknown":{"z":[1,2]}}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlatformOfTheImageIsTheTarget(t *testing.T) {
	for _, tc := range []struct{ src, target, arch, variant string }{
		{"FROM scratch\n", "linux/arm/v7", "arm", "v7"},
		{"FROM busybox\n", "linux/arm64", "arm64", ""},
		{"FROM --platform=linux/arm/v6 busybox\n", "linux/amd64", "amd64", ""},
		{"FROM --platform=linux/amd64 busybox\n", "linux/arm/v7", "arm", "v7"},
	} {
		c := configOf(t, tc.src, options(on(tc.target)))
		variant, _ := c["variant"].(string)
		if c["os"] != "linux" || c["architecture"] != tc.arch || variant != tc.variant {
			t.Errorf("%s for %s: %v/%v/%v", tc.src, tc.target, c["os"], c["architecture"], variant)
		}
	}
}

func TestHistoryAccountsForTheLayersOfTheBase(t *testing.T) {
	for name, tc := range map[string]struct{ history, want string }{
		"no history":        {`[]`, "LL"},
		"too few entries":   {`[{"created_by":"a"},{"empty_layer":true}]`, "LeL"},
		"too many entries":  {`[{"created_by":"a"},{"created_by":"b"},{"created_by":"c"}]`, "eLL"},
		"as many as layers": {`[{"empty_layer":true},{},{}]`, "eLL"},
	} {
		base := known()
		base.configs["b"] = `{%s,"config":{},"rootfs":{"diff_ids":["sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"]},"history":` + tc.history + `}`
		c := configOf(t, "FROM b\nCOPY a /\n", options(func(o *Options) { o.Images = base }))
		got := ""
		for _, h := range c["history"].([]any) {
			if h.(map[string]any)["empty_layer"] == true {
				got += "e"
			} else {
				got += "L"
			}
		}
		if got != tc.want+"L" {
			t.Errorf("%s: history %s, want %s", name, got, tc.want+"L")
		}
		if n := len(c["rootfs"].(map[string]any)["diff_ids"].([]any)); n != 3 {
			t.Errorf("%s: %d layers, want 3", name, n)
		}
	}
}

func TestLabelsOfTheCommandLineComeLast(t *testing.T) {
	o := options(func(o *Options) { o.Labels = map[string]string{"a": "cli", "b": "cli"} })
	p := planOf(t, "FROM scratch\nLABEL a=file c=file\n", o)
	for range 2 {
		raw, err := p.Results[0].ImageConfig(madeAt)
		if err != nil {
			t.Fatal(err)
		}
		if want := `"Labels":{"a":"cli","b":"cli","c":"file"}`; !strings.Contains(string(raw), want) {
			t.Errorf("config %s, want %s in it", raw, want)
		}
	}
}

func TestAStepHasToMakeOneLayer(t *testing.T) {
	p := planOf(t, "FROM scratch\nCOPY a /\n", options())
	_, err := p.Results[0].ImageConfig(func(*Step) Made { return Made{} })
	if err == nil || !strings.Contains(err.Error(), "Dockerfile:2: COPY a /: got 0 layers, want 1") {
		t.Errorf("error %v", err)
	}
}

func TestBrokenBaseConfigs(t *testing.T) {
	for _, config := range []string{"", "null", "[]", `{"config":[]}`, `{"rootfs":{"diff_ids":["sha256:x"]}}`, `{"history":{}}`, `{"config":null,"history":[null]}`} {
		f, err := Parse("Dockerfile", []byte("FROM x\nENV A=b\n"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPlan(t.Context(), f, options(func(o *Options) { o.Images = verbatim(config) }))
		if err != nil {
			continue
		}
		if _, err := p.Results[0].ImageConfig(madeAt); err != nil {
			t.Errorf("%s: planned, but %v", config, err)
		}
	}
}
