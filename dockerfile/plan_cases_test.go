package dockerfile

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type planCase struct {
	name string
	src  string
	with []func(*Options)
	want string
}

type refusedCase struct {
	name string
	src  string
	with []func(*Options)
	want string // regular expression for "FILE:LINE: message | hint"
}

func with(o ...func(*Options)) []func(*Options) { return o }

func goal(name string) func(*Options) { return func(o *Options) { o.Target = name } }

func named(name string, c Context) func(*Options) {
	return func(o *Options) { o.Contexts = map[string]Context{name: c} }
}

func on(p ...string) func(*Options) { return func(o *Options) { o.Platforms = targets(p...) } }

var planCases = []planCase{
	{name: "the last stage is the target and unused stages are not even looked up",
		src:  "FROM nowhere AS unused\nRUN false\nFROM busybox AS used\nRUN true\nFROM scratch\nCOPY --from=used /a /b\n",
		want: "\n0 [amd64] image busybox\n1<0 [amd64] run true\n2 copy 1[\"/a\"] -> /b\n= 2\n"},
	{name: "a target is named regardless of case", with: with(goal("FIRST")),
		src:  "FROM busybox AS First\nRUN one\nFROM busybox\nRUN two\n",
		want: "\n0 [amd64] image busybox\n1<0 [amd64] run one\n= 1\n"},
	{name: "a target may be a number", with: with(goal("0")),
		src:  "FROM busybox\nRUN one\nFROM busybox\nRUN two\n",
		want: "\n0 [amd64] image busybox\n1<0 [amd64] run one\n= 1\n"},
	{name: "a stage name is found regardless of case",
		src:  "FROM busybox AS Builder\nRUN one\nFROM BUILDER\nCOPY --from=bUILDER /a /b\n",
		want: "\n0 [amd64] image busybox\n1<0 [amd64] run one\n2<1 copy 1[\"/a\"] -> /b\n= 2\n"},
	{name: "of equal stage names the last one wins",
		src:  "FROM scratch AS x\nCOPY one /f\nFROM scratch AS x\nCOPY two /f\nFROM scratch\nCOPY --from=x /f /f\n",
		want: "\n0 copy context:[\"two\"] -> /f\n1 copy 0[\"/f\"] -> /f\n= 1\n"},
	{name: "stages are numbered from 0",
		src:  "FROM scratch\nCOPY a /\nFROM scratch\nCOPY --from=0 /a /b\n",
		want: "\n0 copy context:[\"a\"] -> /\n1 copy 0[\"/a\"] -> /b\n= 1\n"},
	{name: "equal steps of two stages are one",
		src:  "FROM busybox AS a\nRUN x\nFROM busybox AS b\nRUN x\nFROM scratch\nCOPY --from=a / /a\nCOPY --from=b / /b\n",
		want: "\n0 [amd64] image busybox\n1<0 [amd64] run x\n2 copy 1[\"/\"] -> /a\n3<2 copy 1[\"/\"] -> /b\n= 3\n"},
	{name: "an empty stage is an empty source",
		src:  "FROM scratch AS e\nFROM scratch\nCOPY --from=e / /\n",
		want: "\n0 copy scratch[\"/\"] -> /\n= 0\n"},
	{name: "only metadata makes no step", src: "FROM scratch\nLABEL a=b\n", want: "\n= nothing\n"},
	{name: "an image without layers makes no step",
		src: "FROM empty\nCOPY a /\n", want: "\n0 copy context:[\"a\"] -> /\n= 0\n"},

	{name: "COPY is shared by platforms and RUN is not", with: with(both),
		src:  "FROM scratch AS files\nCOPY a /a\nFROM busybox\nCOPY --from=files /a /a\nRUN x\n",
		want: "\n0 [amd64] image busybox\n1 x2 copy context:[\"a\"] -> /a\n2<0 copy 1[\"/a\"] -> /a\n3<2 [amd64] run x\n4 [arm64] image busybox\n5<4 copy 1[\"/a\"] -> /a\n6<5 [arm64] run x\nlinux/amd64 = 3\nlinux/arm64 = 6\n"},
	{name: "a stage of the build platform is one until the target is declared", with: with(both),
		src:  "FROM --platform=$BUILDPLATFORM busybox AS b\nRUN one\nWORKDIR /src\nARG TARGETARCH\nCOPY . .\nRUN two\nFROM scratch\nCOPY --from=b /o /\n",
		want: "\n0 [amd64] x2 image busybox\n1<0 [amd64] x2 run one\n2<1 x2 mkdir /src\n3<2 x2 copy context:[\".\"] -> /src/\n4<3 [amd64] run two {TARGETARCH=amd64} dir=/src\n5 copy 4[\"/o\"] -> /\n6<3 [amd64] run two {TARGETARCH=arm64} dir=/src\n7 copy 6[\"/o\"] -> /\nlinux/amd64 = 5\nlinux/arm64 = 7\n"},
	{name: "a fixed platform binds image and RUN", with: with(both),
		src:  "FROM --platform=linux/arm64/v8 busybox\nRUN x\n",
		want: "\n0 [arm64] x2 image busybox\n1<0 [arm64] x2 run x\nlinux/amd64 = 1\nlinux/arm64 = 1\n"},
	{name: "an image named by --from is that of the target", with: with(on("linux/arm64")),
		src:  "FROM --platform=$BUILDPLATFORM busybox\nCOPY --from=busybox:latest /bin/sh /sh\n",
		want: "\n0 [amd64] image busybox\n1 [arm64] image busybox:latest\n2<0 copy 1[\"/bin/sh\"] -> /sh\n= 2\n"},
	{name: "all platform arguments", with: with(on("linux/arm/v7"), goal("last")),
		src:  "FROM scratch AS last\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT TARGETSTAGE BUILDPLATFORM BUILDOS BUILDARCH BUILDVARIANT TARGETOSVERSION BUILDOSVERSION\nRUN x\n",
		want: "\n0 [arm/v7] run x {TARGETPLATFORM=linux/arm/v7} {TARGETOS=linux} {TARGETARCH=arm} {TARGETVARIANT=v7} {TARGETSTAGE=last} {BUILDPLATFORM=linux/amd64} {BUILDOS=linux} {BUILDARCH=amd64} {BUILDVARIANT=} {TARGETOSVERSION=} {BUILDOSVERSION=}\n= 0\n"},

	{name: "a global ARG is for FROM and has to be declared again", with: with(arg("TAG", "latest")),
		src:  "ARG TAG=wrong\nARG N=$TAG-x\nFROM busybox:${TAG}\nRUN a\nARG N\nRUN b\nARG N=own\nRUN c\n",
		want: "\n0 [amd64] image busybox:latest\n1<0 [amd64] run a\n2<1 [amd64] run b {N=latest-x}\n3<2 [amd64] run c {N=own}\n= 3\n"},
	{name: "what was given wins over the default", with: with(arg("A", "given", "E", "")),
		src:  "FROM scratch\nARG A=default E=default\nRUN x\n",
		want: "\n0 [amd64] run x {A=given} {E=}\n= 0\n"},
	{name: "the later of ARG and ENV wins, and a child sees what the config says",
		src:  "FROM scratch AS p\nENV A=env\nARG A=arg\nARG B=arg\nENV B=env\nRUN x\nFROM p\nRUN y\n",
		want: "\n0 [amd64] run x {A=arg} {B=env}\n1<0 [amd64] run y {A=env} {B=env}\n= 1\n"},
	{name: "ARGs go on to child stages and not to siblings",
		src:  "FROM scratch AS p\nARG A=1\nFROM p AS c\nRUN x\nFROM scratch\nRUN y\nCOPY --from=c / /\n",
		want: "\n0 [amd64] run y\n1 [amd64] run x {A=1}\n2<0 copy 1[\"/\"] -> /\n= 2\n"},
	{name: "an ARG without any value sets nothing", src: "FROM scratch\nARG A\nRUN x\n", want: "\n0 [amd64] run x\n= 0\n"},
	{name: "variables of one ENV are those before it",
		src:  "FROM scratch\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\nRUN x\n",
		want: "\n0 [amd64] run x {abc=bye} {def=hello} {ghi=bye}\n= 0\n"},
	{name: "forms of expansion",
		src:  "FROM scratch\nENV v=a/b/c e=\nENV a=${v#*/} b=${v##*/} c=${v%/*} d=${v%%/*} f=${v/b/X} g=${v//\\//-} h=${e:-d}${e-d} i=${u+x}${v:+y}\nRUN x\n",
		want: "\n0 [amd64] run x {v=a/b/c} {e=} {a=b/c} {b=c} {c=a/b} {d=a} {f=a/X/c} {g=a-b-c} {h=d} {i=y}\n= 0\n"},
	{name: "the escape token is that of the file",
		src:  "# escape=`\nFROM scratch\nENV A=`$x B=\\$A\nRUN a `\n  b\n",
		want: "\n0 [amd64] run a   b {A=$x} {B=\\}\n= 0\n"},
	{name: "proxy arguments need no ARG", with: with(arg("http_proxy", "p")),
		src:  "FROM scratch\nRUN x\nARG HTTP_PROXY=own\nRUN y\n",
		want: "\n0 [amd64] run x proxy{HTTP_PROXY=p} proxy{http_proxy=p}\n1<0 [amd64] run y {HTTP_PROXY=own} proxy{http_proxy=p}\n= 1\n"},

	{name: "RUN forms",
		src:  "FROM scratch\nRUN echo  $V\nRUN [\"a\", \"$V\"]\nSHELL [\"sh\", \"-euc\"]\nRUN c d\nUSER u:g\nRUN [\"e\"]\n",
		want: "\n0 [amd64] run echo  $V\n1<0 [amd64] run [\"a\" \"$V\"]\n2<1 [amd64] run [\"sh\" \"-euc\" \"c d\"]\n3<2 [amd64] run [\"e\"] user=u:g\n= 3\n"},
	{name: "RUN here-documents",
		src:  "FROM scratch\nRUN <<EOF\na $V\nEOF\nRUN <<-E\n\t\tb\n\tE\nRUN <<S\n#!/bin/x\nc\nS\nRUN cat <<O >o && cat <<T >t\n1\nO\n2\nT\n",
		want: "\n0 [amd64] run a $V\n\n1<0 [amd64] run b\n\n2<1 [amd64] run /dev/pipes/S file=S(755)\"#!/bin/x\\nc\\n\"\n3<2 [amd64] run cat <<O >o && cat <<T >t\n1\nO\n2\nT\n= 3\n"},
	{name: "RUN mounts with defaults",
		src: "FROM busybox AS s\nFROM scratch\nWORKDIR /w\n" +
			"RUN --mount=target=/a b\n" +
			"RUN --mount=type=bind,from=s,source=x/../y,target=in,rw b\n" +
			"RUN --mount=type=cache,target=/c/ b\n" +
			"RUN --mount=type=cache,target=d,id=i,sharing=locked,mode=0711,uid=1,gid=2,from=s,source=seed b\n" +
			"RUN --mount=type=tmpfs,target=/t,size=1m b\n" +
			"RUN --mount=type=secret,id=a b\n" +
			"RUN --mount=type=secret,target=/etc/tok,required b\n" +
			"RUN --mount=type=secret,id=x,env=X b\n" +
			"RUN --mount=type=ssh b\n" +
			"RUN --mount=type=ssh,id=k,target=rel,mode=0660,required=true b\n",
		want: "\n0 mkdir /w\n" +
			"1<0 [amd64] run b dir=/w bind(context:/->/a ro)\n" +
			"2 [amd64] image busybox\n" +
			"3<1 [amd64] run b dir=/w bind(2/y->/w/in)\n" +
			"4<3 [amd64] run b dir=/w cache(scratch/->/c id=/c shared)\n" +
			"5<4 [amd64] run b dir=/w cache(2/seed->/w/d id=i locked mode=711 uid=1 gid=2)\n" +
			"6<5 [amd64] run b dir=/w tmpfs(/t size=1048576)\n" +
			"7<6 [amd64] run b dir=/w secret(/run/secrets/a id=a ro)\n" +
			"8<7 [amd64] run b dir=/w secret(/etc/tok id=tok ro required)\n" +
			"9<8 [amd64] run b dir=/w secret( id=x env=X ro)\n" +
			"10<9 [amd64] run b dir=/w ssh( id=default ro)\n" +
			"11<10 [amd64] run b dir=/w ssh(/w/rel id=k mode=660 ro required)\n= 11\n"},
	{name: "mount values are expanded", with: with(arg("BUILDKIT_CACHE_MOUNT_NS", "ns")),
		src:  "FROM scratch\nARG W=/in S=data T=cache\nRUN --mount=type=bind,source=$S,target=$W --mount=type=$T,id=i-$S,target=/c/$S x\n",
		want: "\n0 [amd64] run x {W=/in} {S=data} {T=cache} bind(context:/data->/in ro) cache(scratch/->/c/data id=ns/i-data shared)\n= 0\n"},
	{name: "--network of RUN wins over that of the build", with: with(func(o *Options) { o.Network, o.AllowHostNetwork = "none", true }),
		src:  "FROM scratch\nRUN a\nRUN --network=host b\nRUN --network=default c\n",
		want: "\n0 [amd64] run a network=none\n1<0 [amd64] run b network=host\n2<1 [amd64] run c network=none\n= 2\n"},
	{name: "--security=insecure with the entitlement", with: with(func(o *Options) { o.AllowInsecure = true }),
		src: "FROM scratch\nRUN --security=insecure a\n", want: "\n0 [amd64] run a insecure\n= 0\n"},
	{name: "extra hosts", with: with(func(o *Options) { o.ExtraHosts = []string{"h=1.2.3.4", "i=::1"} }),
		src: "FROM scratch\nRUN a\n", want: "\n0 [amd64] run a hosts=h=1.2.3.4,i=::1\n= 0\n"},

	{name: "COPY destinations",
		src:  "FROM scratch\nWORKDIR /app\nCOPY a b c/\nCOPY f ..\nCOPY f .\nCOPY f /x/../y/.\nCOPY [\"a b\", \"/d e\"]\n",
		want: "\n0 mkdir /app\n1<0 copy context:[\"a\" \"b\"] -> /app/c/\n2<1 copy context:[\"f\"] -> /\n3<2 copy context:[\"f\"] -> /app/\n4<3 copy context:[\"f\"] -> /y/\n5<4 copy context:[\"a b\"] -> /d e\n= 5\n"},
	{name: "COPY options",
		src:  "FROM scratch\nARG O=1:2\nCOPY --chown=$O --chmod=u=rwX,go=rX a /\nCOPY --link --exclude=*.tmp --exclude=x a /\nCOPY --link --chmod=755 a /\nCOPY --parents a/./b /\n",
		want: "\n0 copy owner=1:2 mode=u=rwX,go=rX context:[\"a\"] -> /\n1<0 copy link exclude=[\"*.tmp\" \"x\"] context:[\"a\"] -> /\n2<1 copy mode=755 context:[\"a\"] -> /\n3<2 copy parents context:[\"a/./b\"] -> /\n= 3\n"},
	{name: "COPY here-documents are expanded unless quoted and keep quotes",
		src:  "FROM scratch\nENV W=me\nCOPY <<A <<'B' f /d/\n$W \\$W \"q\"\nA\n$W\nB\nCOPY <<-T /t\n\ta\n\t\tb\n\tT\n",
		want: "\n0 copy context:[\"f\"] <<A(644)\"me $W \\\"q\\\"\\n\" <<B(644)\"$W\\n\" -> /d/\n1<0 copy <<T(644)\"a\\nb\\n\" -> /t\n= 1\n"},
	{name: "ADD says whether archives are extracted",
		src:  "FROM scratch\nADD a.tar /\nADD --unpack=false a.tar /\nADD --unpack a.tar /\n",
		want: "\n0 add context:[\"a.tar\"] -> /\n1<0 add unpack=false context:[\"a.tar\"] -> /\n2<1 add unpack=true context:[\"a.tar\"] -> /\n= 2\n"},

	{name: "WORKDIR is a step unless it is the root, and USER owns it",
		src:  "FROM scratch\nWORKDIR /one\nWORKDIR two\nUSER u\nWORKDIR ../three/./four\nWORKDIR /\nWORKDIR rel\n",
		want: "\n0 mkdir /one\n1<0 mkdir /one/two\n2<1 mkdir /one/three/four u\n3<2 mkdir /rel u\n= 3\n"},
	{name: "the base's settings hold",
		src:  "FROM docker-image-other\nRUN x\nCOPY a b\n",
		with: with(named("docker-image-other", Context{Image: "docker-image://other:1"})),
		want: "\n0 [amd64] image docker-image-other\n1<0 [amd64] run x user=7\n2<1 copy context:[\"a\"] -> /b\n= 2\n"},

	{name: "triggers of a base image run first",
		src:  "FROM triggers\nRUN y\n",
		want: "\n0 [amd64] image triggers\n1<0 [amd64] run echo $A\n {A=1}\n2 [amd64] image busybox\n3<1 copy 2[\"/x\"] -> /y\n4<3 mkdir /w\n5<4 [amd64] run y {A=1} dir=/w\n= 5\n"},
	{name: "triggers of a stage run in its children and only there",
		src:  "FROM busybox AS base\nONBUILD RUN trigger\nRUN base\nFROM base AS mid\nRUN child\nFROM mid\nRUN grandchild\n",
		want: "\n0 [amd64] image busybox\n1<0 [amd64] run base\n2<1 [amd64] run trigger\n3<2 [amd64] run child\n4<3 [amd64] run grandchild\n= 4\n"},

	{name: "a named context takes the place of an image", with: with(named("example.com/team/base:1", Context{Image: "docker-image://busybox:1"}), both),
		src:  "FROM example.com/team/base:1\nRUN x\n",
		want: "\n0 [amd64] image example.com/team/base:1\n1<0 [amd64] run x\n2 [arm64] image example.com/team/base:1\n3<2 [arm64] run x\nlinux/amd64 = 1\nlinux/arm64 = 3\n"},
	{name: "names of contexts are normalised", with: with(named("docker.io/library/alpine:latest", Context{Image: "docker-image://busybox:1"})),
		src: "FROM alpine\nRUN x\n", want: "\n0 [amd64] image alpine\n1<0 [amd64] run x\n= 1\n"},
	{name: "a named context may be for one platform", with: with(named("base::linux/arm64", Context{Image: "docker-image://busybox:1"}),
		func(o *Options) { o.Contexts["base"] = Context{Local: "dir"} }, both),
		src:  "FROM base\nRUN x\n",
		want: "\n0 copy context:dir[\"/\"] -> /\n1<0 [amd64] run x\n2 [arm64] image base\n3<2 [arm64] run x\nlinux/amd64 = 1\nlinux/arm64 = 3\n"},
	{name: "a directory context is read where it is", with: with(named("assets", Context{Local: "assets"})),
		src:  "FROM scratch\nCOPY --from=assets a /\nRUN --mount=from=assets,target=/m x\n",
		want: "\n0 copy context:assets[\"a\"] -> /\n1<0 [amd64] run x bind(context:assets/->/m ro)\n= 1\n"},
	{name: "a named context takes the place of a stage", with: with(named("deps", Context{Local: "d"})),
		src:  "FROM nowhere AS deps\nRUN false\nFROM deps\nCOPY --from=deps /a /b\n",
		want: "\n0 copy context:d[\"/\"] -> /\n1<0 copy context:d[\"/a\"] -> /b\n= 1\n"},

	{name: "no cache for some stages", with: with(func(o *Options) { o.NoCacheStages = []string{"TWO"} }),
		src:  "FROM scratch AS one\nCOPY a /\nFROM one AS two\nCOPY b /\n",
		want: "\n0 copy context:[\"a\"] -> /\n1<0 copy context:[\"b\"] -> / nocache\n= 1\n"},
	{name: "no cache at all", with: with(func(o *Options) { o.NoCache = true }),
		src:  "FROM busybox\nRUN a\n",
		want: "\n0 [amd64] image busybox\n1<0 [amd64] run a nocache\n= 1\n"},
	{name: "byte order mark, CRLF and comments between continuations",
		src:  "\ufeffFROM scratch\r\n# c\r\nRUN a \\\r\n# in between\r\n\r\n  b\r\n",
		want: "\n0 [amd64] run a   b\n= 0\n"},
}

var refusedCases = []refusedCase{
	{name: "no target platform", src: "FROM scratch", with: with(func(o *Options) { o.Platforms = nil }), want: `no target platform`},
	{name: "windows", src: "FROM scratch", with: with(func(o *Options) { o.Platforms = []ocispec.Platform{{OS: "windows", Architecture: "amd64"}} }), want: `windows are not supported`},
	{name: "nothing", src: "", want: `^Dockerfile: .*empty.*no build stage`},
	{name: "only comments", src: "# c\n\n", want: `^Dockerfile: .*empty.*no build stage`},
	{name: "only ARG", src: "ARG A=1\n", want: `no build stage \| begin with FROM`},
	{name: "an instruction before FROM", src: "RUN x\nFROM scratch", want: `^Dockerfile:1: .*no build stage`},
	{name: "unknown instruction", src: "FROM scratch\nRUNN x", want: `^Dockerfile:2: unknown instruction: RUNN \| did you mean RUN\?`},
	{name: "unknown flag", src: "FROM scratch\nRUN --mounts=type=bind x", want: `^Dockerfile:2: RUN: unknown flag: --mounts \| did you mean mount\?`},
	{name: "a flag twice", src: "FROM scratch\nCOPY --chown=1 --chown=2 f /f", want: `duplicate flag specified: --chown`},
	{name: "bad stage name", src: "FROM scratch AS 1st!", want: `1st!`},
	{name: "bad reference", src: "FROM Busy//Box:", want: `^Dockerfile:1: FROM: invalid image reference "Busy//Box:"`},
	{name: "blank base name", src: "ARG BASE\nFROM $BAES", want: `^Dockerfile:2: FROM: base name \(\$BAES\) should not be blank`},
	{name: "missing image, with the stage that was meant", src: "FROM scratch AS builder\nCOPY a /\nFROM bilder", want: `^Dockerfile:3: FROM: bilder: no such image: bilder \| did you mean builder\?`},
	{name: "missing image of COPY --from", src: "FROM scratch\nCOPY --from=127.0.0.1:1/no/image:x /a /a", want: `^Dockerfile:2: COPY: .*no/image`},
	{name: "unknown target", src: "FROM scratch AS first", with: with(goal("frist")), want: `target stage "frist" could not be found \| did you mean first\?`},
	{name: "stage number out of range", src: "FROM scratch\nCOPY --from=7 /x /x", want: `^Dockerfile:2: COPY: invalid stage index 7.*0 to 0`},
	{name: "a stage copies from itself", src: "FROM scratch AS me\nCOPY --from=me / /x", want: `circular dependency: stage me`},
	{name: "a stage copies from a later one", src: "FROM scratch AS a\nCOPY --from=b / /x\nFROM scratch AS b\nCOPY --from=a / /", want: `^Dockerfile:2: COPY: stage "b" has to be defined before`},
	{name: "bad platform", src: "FROM --platform=linux/x/y/z scratch", want: `^Dockerfile:1: FROM: failed to parse platform linux/x/y/z`},
	{name: "empty platform", src: "FROM --platform=$TARGETPLATFROM scratch", want: `empty platform value.*\| did you mean TARGETPLATFORM\?`},
	{name: "duplicate directive", src: "# escape=`\n# escape=`\nFROM scratch", want: `^Dockerfile:2: .*only one escape`},
	{name: "bad escape", src: "# escape=x\nFROM scratch", want: `^Dockerfile:1: .*escape token "x"`},
	{name: "foreign frontend", src: "# syntax=example.com/front:1\nFROM scratch", want: `^Dockerfile:1: frontend "example.com/front:1" is not supported`},
	{name: "newer frontend", src: "# syntax=docker/dockerfile:1.99\nFROM scratch", want: `newer than 1\.\d+`},
	{name: "foreign frontend by build argument", src: "FROM scratch", with: with(arg("BUILDKIT_SYNTAX", "x/y")), want: `BUILDKIT_SYNTAX: frontend "x/y"`},
	{name: "bad check directive", src: "# check=nonsense\nFROM scratch", want: `^Dockerfile:1: invalid check option`},
	{name: "NUL byte", src: "FROM scratch\nRUN a\x00b", want: `^Dockerfile:2: .*NUL byte`},
	{name: "unterminated here-document", src: "FROM scratch\nCOPY <<EOF /a\nx\n", want: `unterminated heredoc`},
	{name: "here-document as destination", src: "FROM scratch\nCOPY a <<EOF\nx\nEOF\n", want: `cannot accept a heredoc as a destination`},
	{name: "here-document named like a path", src: "FROM scratch\nCOPY <<../x /a\nx\n../x\n", want: `"../x" of a here-document`},
	{name: "shebang document named like a path", src: "FROM scratch\nRUN <<../x\n#!x\n../x\n", want: `"../x" of a here-document`},

	{name: "variable that must be set", src: "FROM scratch\nARG N\nENV X=\"${N:?please pass N}\"", want: `^Dockerfile:3: ENV: .*please pass N`},
	{name: "unknown modifier", src: "FROM scratch\nENV A=${X^^}", want: `^Dockerfile:2: .*modifier`},
	{name: "ENV without a value", src: "FROM scratch\nENV LONELY", want: `ENV must have two arguments`},
	{name: "ENV without a name", src: "FROM scratch\nENV $N=1", want: `"" cannot be the name of a variable`},
	{name: "endless doubling", src: "FROM scratch\nENV A=xxxxxxxxxxxxxxxx\n" + strings.Repeat("ENV A=$A$A$A$A\n", 20), want: `gives too much text`},
	{name: "endless replacing", src: "FROM scratch\nENV A=xxxxxxxxxxxxxxxx\n" + strings.Repeat("ENV A=${A//x/$A}\n", 9), want: `gives too much text`},

	{name: "too many instructions", src: "FROM scratch\n" + strings.Repeat("USER a\n", maxInstructions), want: `10001 instructions is too long, the limit is 10000`},
	{name: "too many ports", src: "FROM scratch\nEXPOSE 0-65535 1\n", want: `more than 65536 ports`},
	{name: "too much history", src: "FROM scratch\n" + strings.Repeat("EXPOSE 0-65535\n", 30), want: `gives too much text`},

	{name: "unknown mount type", src: "FROM scratch\nRUN --mount=type=tmpsf,target=/x true", want: `unsupported mount type "tmpsf" \| did you mean tmpfs\?`},
	{name: "unknown mount key", src: "FROM scratch\nRUN --mount=type=bind,targt=/x true", want: `unexpected key 'targt'.*\| did you mean target\?`},
	{name: "variable in from of a mount", src: "FROM scratch\nRUN --mount=from=$X,target=/x true", want: `'from' doesn't support variable expansion`},
	{name: "mount over the root", src: "FROM scratch\nRUN --mount=target=/x/.. true", want: `invalid mount target "/x/\.\."`},
	{name: "mode of a bind mount", src: "FROM scratch\nRUN --mount=target=/x,mode=1 true", want: `mode not allowed for "bind"`},
	{name: "sharing of a bind mount", src: "FROM scratch\nRUN --mount=target=/x,sharing=locked true", want: `invalid cache sharing`},
	{name: "secret without a name", src: "FROM scratch\nRUN --mount=type=secret true", want: `one of source, target required`},
	{name: "source of an ssh mount", src: "FROM scratch\nRUN --mount=type=ssh,source=x true", want: `ssh mount does not support source`},
	{name: "unknown network", src: "FROM scratch\nRUN --network=bridge true", want: `invalid network mode "bridge"`},
	{name: "host network without the entitlement", src: "FROM scratch\nRUN --network=host true", want: `network\.host \| --allow network\.host`},
	{name: "host network of the build without the entitlement", src: "FROM scratch", with: with(func(o *Options) { o.Network = "host" }), want: `network\.host`},
	{name: "insecure without the entitlement", src: "FROM scratch\nRUN --security=insecure true", want: `security\.insecure \| --allow security\.insecure`},
	{name: "device", src: "FROM scratch\nRUN --device=vendor.com/gpu=0 true", want: `^Dockerfile:2: RUN --device is not supported`},
	{name: "RUN without a command", src: "FROM scratch\nRUN []", want: `RUN needs a command`},
	{name: "bad extra host", src: "FROM scratch", with: with(func(o *Options) { o.ExtraHosts = []string{"a=b"} }), want: `extra host "a=b"`},

	{name: "variable in --from", src: "FROM scratch AS a\nFROM scratch\nCOPY --from=$A / /", want: `variables are not possible in --from \| define a stage`},
	{name: "COPY of a URL", src: "FROM scratch\nCOPY https://x/y /y", want: `can't be a URL for COPY \| ADD is for that`},
	{name: "COPY of a repository", src: "FROM scratch\nCOPY git@x:y.git /y", want: `can't be a git repository for COPY`},
	{name: "checksum of a URL that is none", src: "FROM scratch\nARG U=https://x/y.tgz\nADD --checksum=sha256:00 $U /y", want: `^Dockerfile:3: ADD: "https://x/y.tgz": invalid --checksum=sha256:00`},
	{name: "checksum of a repository that is none", src: "FROM scratch\nADD --checksum=sha256:00 https://x/y.git /y", want: `invalid checksum "sha256:00" of a git repository`},
	{name: "checksum of several URLs", src: "FROM scratch\nADD --checksum=sha256:00 https://x/y https://x/z /y/", want: `checksum`},
	{name: "unknown query of a repository", src: "FROM scratch\nADD https://x/y.git?brunch=a /y", want: `unexpected query "brunch"`},
	{name: "contradicting --keep-git-dir", src: "FROM scratch\nADD --keep-git-dir https://x/y.git?keep-git-dir=0 /y", want: `contradict`},
	{name: "contradicting checksums", src: "FROM scratch\nADD --checksum=ab https://x/y.git?checksum=cd /y", want: `contradict`},
	{name: "--keep-git-dir of a URL", src: "FROM scratch\nADD --keep-git-dir https://x/y /y", want: `--keep-git-dir needs a git source`},
	{name: "repository that git would take for an option", src: "FROM scratch\nADD https://x/y.git#--upload-pack=x /y", want: `invalid git reference "--upload-pack=x"`},
	{name: "URL without a host", src: "FROM scratch\nADD https:///y /y", want: `invalid URL`},
	{name: "broken URL with a password", src: "FROM scratch\nADD https://u:secret@h:port/y /y", want: `^Dockerfile:2: ADD: "https://xxxxx@h:port/y": invalid URL: invalid port`},
	{name: "checksum of a local file", src: "FROM scratch\nADD --checksum=sha256:00 f /y", want: `checksum`},
	{name: "bad octal mode", src: "FROM scratch\nCOPY --chmod=99 f /", want: `--chmod "99"`},
	{name: "octal mode out of range", src: "FROM scratch\nCOPY --chmod=17777 f /", want: `--chmod "17777".*07777`},
	{name: "bad symbolic mode", src: "FROM scratch\nCOPY --chmod=u~x f /", want: `--chmod "u~x"`},
	{name: "COPY without a destination", src: "FROM scratch\nCOPY a", want: `COPY requires at least two arguments`},

	{name: "WORKDIR without a path", src: "FROM scratch\nWORKDIR", want: `WORKDIR requires exactly one argument`},
	{name: "empty volume", src: "FROM scratch\nVOLUME [\"\"]", want: `VOLUME`},
	{name: "volume that is empty when expanded", src: "FROM scratch\nVOLUME $X", want: `VOLUME specified can not be an empty string`},
	{name: "port that is no number", src: "FROM scratch\nEXPOSE eighty", want: `eighty`},
	{name: "range that runs backwards", src: "FROM scratch\nEXPOSE 9-8", want: `runs backwards`},
	{name: "port out of range", src: "FROM scratch\nEXPOSE 65536", want: `65536`},
	{name: "unknown protocol", src: "FROM scratch\nEXPOSE 1/icmp", want: `unknown protocol "icmp"`},
	{name: "unknown signal", src: "FROM scratch\nSTOPSIGNAL SIGNONE", want: `STOPSIGNAL: .*SIGNONE`},
	{name: "SHELL without JSON", src: "FROM scratch\nSHELL sh -c", want: `SHELL requires the arguments to be in JSON form`},
	{name: "ONBUILD FROM", src: "FROM scratch\nONBUILD FROM scratch", want: `FROM isn't allowed as an ONBUILD trigger`},
	{name: "ONBUILD ONBUILD", src: "FROM scratch\nONBUILD ONBUILD RUN x", want: `ONBUILD ONBUILD`},
	{name: "a base image's trigger that is no instruction", src: "FROM bad-trigger", want: `^Dockerfile:1: ONBUILD trigger "FROM scratch" of the base image: FROM isn.t allowed`},
	{name: "a base image's trigger of two instructions", src: "FROM two-triggers", want: `has to be one instruction`},
	{name: "a trigger that fails", src: "FROM scratch AS a\nONBUILD COPY --from=9 / /\nFROM a", want: `^Dockerfile:3: .*invalid stage index 9`},
	{name: "checks that are errors", src: "# check=error=true\nFROM scratch\nMAINTAINER x\nWORKDIR a", want: `^Dockerfile:3: .*lint violation found for rules: MaintainerDeprecated, WorkdirRelativePath`},
	{name: "a context that is nothing", src: "FROM scratch", with: with(named("x", Context{})), want: `build context "x": want either`},
	{name: "a context with an impossible name", src: "FROM scratch", with: with(named("A B", Context{Local: "x"})), want: `build context "A B": invalid name`},
}
