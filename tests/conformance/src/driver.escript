#!/usr/bin/env escript
%%! -noinput +sbwt none +sbwtdcpu none +sbwtdio none
%% Plays scenarios on Erlang's own supervisor and writes down what a child and a caller see.
%%
%% A scenario comes as one packet in the external term format, its trace goes back as one packet of text.
%% Each scenario has a process of its own, the driver, to which every child and every caller reports.
%%
%% The driver's log is in causal order: whoever is about to do something a report could depend on has sent
%% its own report before. A kill by the supervisor is told by a monitor that is older than the supervisor's
%% own, and so told first.
-mode(compile).
-export([main/1, start/2, child/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% A child that runs, hangs, or is about to end.
-record(w, {id, n, sup, state, starts = []}).
%% A supervisor.
-record(p, {name, strategy, auto = never, started = false, gone = false}).

-record(d, {scenario, top, parent, req = #{}, counts = #{}, w = #{}, p = #{}, names = #{}, pids = #{},
            log = [], gone = [], pending = 0, phase = new, touched = [], causes = [], temporary = [], deadline = 0}).

-define(STUCK_MS, 30000).

main(_) ->
    ok = logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Port = open_port({fd, 0, 1}, [{packet, 4}, binary, eof]),
    Release = list_to_binary(erlang:system_info(otp_release)),
    port_command(Port, [<<"0 hello ">>, Release]),
    serve(Port).

serve(Port) ->
    receive
        {Port, {data, Packet}} ->
            {Number, Top, Steps} = binary_to_term(Packet),
            Out = self(),
            spawn(fun() ->
                Text = try drive(Top, Steps)
                       catch C:E:St -> io_lib:format("broken ~0p~n", [{C, E, St}])
                       end,
                Out ! {trace, Number, Text},
                exit(kill)
            end),
            serve(Port);
        {trace, Number, Text} ->
            port_command(Port, [integer_to_binary(Number), $\n, Text]),
            serve(Port);
        {Port, eof} -> halt(0);
        _ -> serve(Port)
    end.

%%% Children: what runs in the supervisor, and in the child.

call(D, Message) ->
    Monitor = monitor(process, D),
    D ! {Message, {self(), Monitor}},
    receive
        {Monitor, Answer} -> demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, _, _, _} -> exit(killed)
    end.

%% The start function; runs in the supervisor.
start(D, {Id, _, _, _, _, _, {sup, Sup}}) ->
    case start_supervisor({D, Id, Sup}) of
        {ok, Pid} -> ok = call(D, {started, Id, 0, Pid, self(), []}), {ok, Pid};
        Other -> Other
    end;
start(D, {Id, _, _, _, _, Starts, worker} = Def) ->
    N = call(D, {attempt, Id}),
    case outcome(N, Starts) of
        ignore -> ignore;
        error -> {error, error};
        _ -> proc_lib:start_link(?MODULE, child, [D, Def, N, self()])
    end.

outcome(N, Starts) when N =< length(Starts) -> lists:nth(N, Starts);
outcome(_, _) -> ok.

child(D, {Id, _, _, _, Stop, Starts, worker}, N, Sup) ->
    process_flag(trap_exit, true),
    case outcome(N, Starts) of
        {hang, Then} ->
            D ! {hang, Id, N, self(), Sup, init, Then},
            receive
                release -> begins(D, Id, N, Sup, Stop, Starts, Then);
                {'EXIT', Sup, Reason} -> exit(Reason)
            end;
        Outcome -> begins(D, Id, N, Sup, Stop, Starts, Outcome)
    end.

begins(D, Id, N, Sup, Stop, Starts, ok) ->
    ok = call(D, {started, Id, N, self(), Sup, Starts}),
    proc_lib:init_ack(Sup, {ok, self()}),
    lives(D, Id, N, Sup, Stop);
begins(_, _, _, _, _, _, panic) -> exit(panic);
begins(_, _, _, Sup, _, _, ignore) -> unlink(Sup), proc_lib:init_ack(Sup, ignore);
begins(_, _, _, Sup, _, _, error) -> unlink(Sup), proc_lib:init_ack(Sup, {error, error}).

lives(D, Id, N, Sup, Stop) ->
    receive
        {exit, Reason} -> ends(D, Id, N, Reason);
        {'EXIT', Sup, shutdown} -> stops(D, Id, N, Sup, Stop);
        {'EXIT', Sup, Reason} -> ends(D, Id, N, Reason)
    end.

stops(D, Id, N, Sup, hang) ->
    D ! {hang, Id, N, self(), Sup, stop, ok},
    receive
        release -> ends(D, Id, N, shutdown);
        {'EXIT', Sup, Reason} -> ends(D, Id, N, Reason)
    end;
stops(D, Id, N, Sup, ignore) ->
    D ! {ignores, self()},
    receive {'EXIT', Sup, Reason} -> ends(D, Id, N, Reason) end;
stops(D, Id, N, _, Stop) -> ends(D, Id, N, reason(Stop)).

ends(D, Id, N, Reason) ->
    D ! {terminated, Id, N, self(), Reason},
    exit(Reason).

reason(shutdown_with) -> {shutdown, x};
reason(Reason) -> Reason.

%% A supervisor as supervisor:start_link/2 starts it, but that its end is reported by itself: a callback module
%% that hands everything on to OTP's.
start_supervisor(Args) -> gen_server:start_link(?MODULE, {self, ?MODULE, Args}, []).

handle_call(Request, From, State) -> supervisor:handle_call(Request, From, State).
handle_cast(Request, State) -> supervisor:handle_cast(Request, State).
handle_info(Message, State) -> supervisor:handle_info(Message, State).
terminate(Reason, State) ->
    Result = supervisor:terminate(Reason, State),
    {D, Name} = get(driver),
    D ! {sup_ends, Name, self(), Reason},
    Result.

init({self, ?MODULE, {D, Name, _}} = Args) ->
    put(driver, {D, Name}),
    supervisor:init(Args);
init({D, Name, {Strategy, Intensity, Period, Auto, Children}}) ->
    ok = call(D, {sup_init, Name, self(), Strategy, Auto}),
    Flags = #{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => Auto},
    Specs = case Strategy of
        simple_one_for_one -> [maps:put(start, {?MODULE, start, [D]}, spec(D, hd(Children)))];
        _ -> [spec(D, Def) || Def <- Children]
    end,
    {ok, {Flags, Specs}}.

spec(D, {Id, Restart, Significant, Shutdown, _, _, Kind} = Def) ->
    Type = case Kind of worker -> worker; _ -> supervisor end,
    #{id => Id, start => {?MODULE, start, [D, Def]}, restart => Restart, significant => Significant,
      shutdown => Shutdown, type => Type}.

%%% The driver.

drive(Top, Steps) ->
    Self = self(),
    Parent = spawn(fun() ->
        process_flag(trap_exit, true),
        Self ! {answer, start, try start_supervisor({Self, <<>>, Top}) catch _:E -> {error, E} end},
        parent(Self)
    end),
    {Strategy, _, _, _, _} = Top,
    D0 = #d{scenario = Strategy, parent = Parent, req = #{start => {start, none, none, false}},
            temporary = temporary([Top | [Def || {start, _, Def} <- Steps]])},
    D1 = settle(log(["S start do\n"], D0)),
    D2 = play(0, Steps, D1),
    D3 = epilogue(D2),
    cleanup(D3),
    lists:reverse(D3#d.log).

%% The ids of temporary children, wherever they stand.
temporary({_, _, _, _, Children}) -> temporary(Children);
temporary(Defs) when is_list(Defs) -> lists:flatmap(fun temporary/1, Defs);
temporary({Id, temporary, _, _, _, _, Kind}) -> [Id | temporary(Kind)];
temporary({_, _, _, _, _, _, Kind}) -> temporary(Kind);
temporary({sup, Sup}) -> temporary(Sup);
temporary(worker) -> [].

parent(Driver) ->
    receive
        {shutdown, Sup, Ref} -> exit(Sup, shutdown), Driver ! {Ref, done}, parent(Driver);
        _ -> parent(Driver)
    end.

cleanup(D) ->
    exit(D#d.parent, kill),
    [exit(Pid, kill) || Pid <- maps:keys(D#d.w) ++ maps:keys(D#d.p)],
    ok.

play(_, [], D) -> D;
play(I, [Step | Steps], D0) ->
    D1 = drain(D0),
    case allowed(Step, D1) of
        false ->
            play(I + 1, Steps, log(["S ", integer_to_list(I), " skip\nE ", busy_word(D1), "\n"], D1));
        {true, Verdict} ->
            D2 = log(["S ", integer_to_list(I), " ", Verdict, "\n"], D1),
            play(I + 1, Steps, settle(do(I, Step, D2)))
    end.

epilogue(D0) ->
    D1 = release_all(D0),
    case is_map_key(D1#d.top, D1#d.p) of
        false -> D1;
        true -> release_all(settle(do(end_, shutdown, log(["S end do\n"], D1))))
    end.

release_all(D) ->
    case hanging(D) of
        [] -> D;
        _ -> release_all(settle(do(end_, {release, 0}, log(["S end rel ", element(2, chosen(0, D)), "\n"], D))))
    end.

%% What is done now, and what is left out because its outcome would be a matter of luck or of the rules of
%% docs/conformance.md.
allowed({exit, Id, _}, D) -> may_end(Id, D);
allowed({kill, Id}, D) -> may_end(Id, D);
allowed({both, A, _, B, _}, D) ->
    case {running(A, D), running(B, D)} of
        {{_, #w{sup = Sup} = First}, {_, #w{sup = Sup} = Second}} when A =/= B ->
            on(not is_busy(D) andalso in_one_group(A, B, Sup, D) andalso one_after_the_other(First, Second));
        _ -> false
    end;
allowed({killsup, Id}, D) -> on(not is_busy(D) andalso alive_sup(Id, D));
allowed({release, K}, D) ->
    case chosen(K, D) of
        none -> false;
        {_, Id} -> {true, ["rel ", Id]}
    end;
allowed({wait, _}, D) -> on(not is_busy(D));
allowed(_, #d{phase = new}) -> false;
allowed({noise, Sup}, D) -> on(is_map_key(Sup, D#d.names));
allowed(shutdown, D) ->
    on(is_map_key(D#d.top, D#d.p) andalso D#d.phase =:= up andalso (not is_busy(D) orelse not in_group(D)));
allowed({Query, Sup}, D) when Query =:= which; Query =:= count ->
    on(is_map_key(Sup, D#d.names) andalso has_started(maps:get(Sup, D#d.names), D)
       andalso (not is_busy(D) orelse is_reached(maps:get(Sup, D#d.names), D)));
allowed({start, Sup, Def}, #d{scenario = simple_one_for_one} = D) ->
    on(Sup =:= <<>> andalso not is_map_key(element(1, Def), D#d.counts));
allowed({start, Sup, Def}, D) -> request(start, Sup, element(1, Def), D);
allowed({terminate, <<>>, Id}, #d{scenario = simple_one_for_one} = D) ->
    %% OTP is asked to end a life, ours to give up a place: while something hangs they may differ.
    Settled = not is_busy(D) orelse (running(Id, D) =/= false andalso not lists:member(Id, D#d.touched)),
    on(is_map_key(Id, D#d.pids) andalso Settled);
allowed({_, _, _}, #d{scenario = simple_one_for_one}) -> false;
allowed({Kind, Sup, Id}, D) -> request(Kind, Sup, Id, D).

on(true) -> {true, "do"};
on(false) -> false.

%% Whether its next start succeeds. The tries of two children that fail at a time are counted in the order in
%% which they fail, and that of a start that hangs comes later in OTP.
comes_back(#w{n = N, starts = Starts}) ->
    case outcome(N + 1, Starts) of
        {hang, Then} -> Then =:= ok;
        Then -> Then =:= ok
    end.

%% Whether the next starts of two children are over at once, or neither fails: see comes_back.
one_after_the_other(A, B) ->
    not (hangs(A) orelse hangs(B)) orelse (comes_back(A) andalso comes_back(B)).

hangs(#w{n = N, starts = Starts}) ->
    case outcome(N + 1, Starts) of
        {hang, _} -> true;
        _ -> false
    end.

%% Whether the supervisor may end before it serves a request: if the exit that waits is that of the last
%% significant child, and what hangs fails.
may_be_over(Sup, #d{pending = 1} = D) ->
    case maps:find(Sup, D#d.p) of
        {ok, #p{auto = all_significant}} ->
            lists:any(fun(#w{sup = S, state = {hang, init, Then}}) -> S =:= Sup andalso Then =/= ok;
                         (_) -> false
                      end, maps:values(D#d.w));
        _ -> false
    end;
may_be_over(_, _) -> false.

%% Whether the second is among those that are stopped for the first, or neither for the other.
in_one_group(A, B, Sup, D) ->
    case maps:get(Sup, D#d.p) of
        #p{strategy = rest_for_one} ->
            Order = [Id || {Id, _, _, _} <- supervisor:which_children(Sup), Id =:= A orelse Id =:= B],
            Order =:= [B, A];
        _ -> true
    end.

may_end(Id, D) ->
    case running(Id, D) of
        false -> false;
        {_, #w{sup = Sup} = W} ->
            on(not is_busy(D)
               orelse (all_alone(D) andalso not lists:member(Id, D#d.touched) andalso has_started(Sup, D)
                       andalso D#d.phase =:= up andalso D#d.pending =:= 0 andalso is_reached(Sup, D)
                       andalso comes_back(W)))
    end.

%% While something hangs, a request is made if its answer does not depend on whether it is served now or
%% after the release.
request(Kind, Sup, Id, D) ->
    case is_map_key(Sup, D#d.names) andalso has_started(maps:get(Sup, D#d.names), D) of
        false -> false;
        true ->
            case is_busy(D) of
                false -> {true, "do"};
                true -> busy_request(Kind, Sup, Id, D)
            end
    end.

busy_request(spec, Sup, _, D) -> on(is_reached(maps:get(Sup, D#d.names), D));
busy_request(Kind, Sup, Id, D) ->
    Touched = lists:member(Id, D#d.touched) orelse lists:member(Sup, D#d.touched)
        orelse not is_reached(maps:get(Sup, D#d.names), D) orelse is_held_from_below(Id, D)
        orelse may_be_over(maps:get(Sup, D#d.names), D),
    case [{State, maps:get(W#w.sup, D#d.p)} || #w{id = H, state = State} = W <- maps:values(D#d.w), H =:= Id] of
        _ when Touched -> false;
        [{{hang, init, Then}, #p{name = Sup}}] -> on_hanging_start(Kind, Then, Id, D);
        [{{hang, stop, _}, #p{name = Sup}}] -> on_hanging_stop(Kind, Id, D);
        [{{hang, _, _}, _}] -> false;
        _ -> on(not in_group(D))
    end.

on_hanging_start(Kind, Then, Id, D) ->
    ByRequest = caused_by_request(Id, D),
    Safe = Then =:= ok orelse (not ByRequest andalso (Then =:= error orelse Then =:= panic)),
    case Safe andalso not (Kind =:= terminate andalso in_group(D)) of
        true -> {true, "hot"};
        false -> false
    end.

on_hanging_stop(terminate, Id, D) ->
    on(lists:member({terminate, Id}, D#d.causes) andalso not lists:member(Id, D#d.temporary));
on_hanging_stop(_, _, _) -> false.

caused_by_request(Id, D) ->
    lists:any(fun({Kind, _, Of, Later}) -> Of =:= Id andalso not Later andalso Kind =/= terminate end,
              maps:values(D#d.req)).

all_alone(D) ->
    lists:all(fun(#p{strategy = S}) -> S =:= one_for_one orelse S =:= simple_one_for_one end, maps:values(D#d.p)).

%% Whether a group restart may be what is held up.
in_group(D) ->
    not all_alone(D) andalso
    not lists:all(fun({_, Id}) ->
        lists:any(fun({_, _, Of, Later}) -> Of =:= Id andalso not Later end, maps:values(D#d.req))
    end, hanging(D)).

has_started(Pid, D) ->
    case maps:find(Pid, D#d.p) of
        {ok, #p{started = Started}} -> Started;
        error -> true
    end.

%% Whether it is a nested supervisor that starts or stops, and a child of which hangs.
is_held_from_below(Id, D) ->
    Below = [H || #w{sup = Sup, state = {hang, _, _}} = H <- maps:values(D#d.w), maps:find(Id, D#d.names) =:= {ok, Sup}],
    Below =/= [] andalso sample(D#d.top, true) =:= blocked.

%% Whether what happens under the supervisor does not depend on what its own still has to do.
is_reached(Sup, D) -> Sup =:= D#d.top orelse sample(D#d.top, true) =/= blocked.

running(Id, D) ->
    case [{Pid, W} || {Pid, #w{id = I, state = run} = W} <- maps:to_list(D#d.w), I =:= Id] of
        [Found] -> Found;
        [] -> false
    end.

alive_sup(Id, D) ->
    Id =/= <<>> andalso lists:any(fun(#p{name = N, started = S}) -> N =:= Id andalso S end, maps:values(D#d.p)).

hanging(D) ->
    lists:sort([{Pid, Id} || {Pid, #w{id = Id, state = {hang, _, _}}} <- maps:to_list(D#d.w)]).

chosen(K, D) ->
    case lists:keysort(2, hanging(D)) of
        [] -> none;
        All -> lists:nth(1 + K rem length(All), All)
    end.

is_busy(D) -> hanging(D) =/= [].
busy_word(D) -> case is_busy(D) of true -> "busy"; false -> "idle" end.

do(_, {exit, Id, How}, D) -> end_child(Id, How, D);
do(_, {kill, Id}, D) -> end_child(Id, kill, D);
do(_, {both, A, HowA, B, HowB}, D0) ->
    {_, #w{sup = Sup}} = running(A, D0),
    ok = sys:suspend(Sup),
    D1 = await_end(A, end_child(A, HowA, D0)),
    D2 = await_end(B, end_child(B, HowB, D1)),
    ok = sys:resume(Sup),
    D2#d{pending = 1, touched = [A, B]};
do(_, {killsup, Id}, D0) ->
    ok = sys:suspend(D0#d.top),
    Pid = maps:get(Id, D0#d.names),
    Below = lists:sort([{W#w.id, P} || {P, #w{sup = S} = W} <- maps:to_list(D0#d.w), S =:= Pid]),
    D1 = lists:foldl(fun({_, P}, D) -> foretold(P, killed, D) end, D0, Below),
    D2 = foretold_sup(Pid, killed, D1),
    exit(Pid, kill),
    D3 = lists:foldl(fun({_, P}, D) -> await_gone(P, D) end, await_gone(Pid, D2), Below),
    ok = sys:resume(D3#d.top),
    D3;
do(_, {release, K}, D) ->
    {Pid, _} = chosen(K, D),
    Pid ! release,
    W = maps:get(Pid, D#d.w),
    D#d{w = maps:put(Pid, W#w{state = told}, D#d.w)};
do(_, {wait, Ms}, D) ->
    Ref = make_ref(),
    erlang:send_after(Ms, self(), {waited, Ref}),
    wait_out(Ref, D);
do(_, shutdown, D) ->
    Ref = make_ref(),
    D#d.parent ! {shutdown, D#d.top, Ref},
    receive {Ref, done} -> ok end,
    D#d{phase = ending};
do(_, {noise, Sup}, D) ->
    Pid = maps:get(Sup, D#d.names),
    Pid ! an_unknown_message,
    exit(Pid, a_strangers_exit),
    D;
do(I, Step, D) -> ask(I, Step, D).

wait_out(Ref, D) ->
    receive
        {waited, Ref} -> D;
        Message -> wait_out(Ref, handle(Message, D))
    end.

end_child(Id, How, D0) ->
    end_now(Id, How, case is_busy(D0) of true -> D0#d{pending = 1}; false -> D0 end).

end_now(Id, kill, D0) ->
    {Pid, _} = running(Id, D0),
    D1 = foretold(Pid, killed, D0),
    exit(Pid, kill),
    touch(Id, D1);
end_now(Id, How, D) ->
    {Pid, W} = running(Id, D),
    Pid ! {exit, reason(How)},
    touch(Id, D#d{w = maps:put(Pid, W#w{state = told}, D#d.w)}).

touch(Id, D) ->
    case is_busy(D) of true -> D#d{touched = [Id | D#d.touched]}; false -> D end.

await_end(Id, D) ->
    case [Pid || {Pid, #w{id = I, state = S}} <- maps:to_list(D#d.w), I =:= Id, S =/= run] of
        [] -> unlinked(D);
        [Pid] -> unlinked(await_gone(Pid, D))
    end.

await_gone(Pid, D) ->
    case is_map_key(Pid, D#d.w) orelse is_map_key(Pid, D#d.p) of
        false -> D;
        true -> receive Message -> await_gone(Pid, handle(Message, D)) end
    end.

unlinked(D0) ->
    case linked(D0) of
        {[], D} -> D;
        {_, D} -> erlang:yield(), unlinked(D)
    end.

ask(I, Step, D) ->
    Self = self(),
    Sup = maps:get(element(2, Step), D#d.names),
    Call = request_of(Step, D),
    spawn(fun() ->
        Self ! {answer, I, try Call(Sup) catch exit:_ -> gone end}
    end),
    Id = case Step of
        {start, _, Def} -> element(1, Def);
        {_, _, Of} -> Of;
        _ -> none
    end,
    Kind = element(1, Step),
    Touched = Kind =:= spec orelse Id =:= none
        orelse (Kind =/= terminate andalso lists:member(Id, [H || {_, H} <- hanging(D)])),
    D1 = D#d{req = maps:put(I, {Kind, Sup, Id, is_busy(D)}, D#d.req), causes = [{Kind, Id} | D#d.causes]},
    case Touched of true -> D1; false -> touch(Id, D1) end.

request_of({start, _, Def}, #d{scenario = simple_one_for_one}) ->
    fun(Sup) -> supervisor:start_child(Sup, [Def]) end;
request_of({start, _, Def}, _) ->
    Spec = spec(self(), Def),
    fun(Sup) -> supervisor:start_child(Sup, Spec) end;
request_of({terminate, _, Id}, #d{scenario = simple_one_for_one, pids = Pids}) ->
    Pid = maps:get(Id, Pids),
    fun(Sup) -> supervisor:terminate_child(Sup, Pid) end;
request_of({terminate, _, Id}, _) -> fun(Sup) -> supervisor:terminate_child(Sup, Id) end;
request_of({restart, _, Id}, _) -> fun(Sup) -> supervisor:restart_child(Sup, Id) end;
request_of({delete, _, Id}, _) -> fun(Sup) -> supervisor:delete_child(Sup, Id) end;
request_of({spec, _, Id}, _) -> fun(Sup) -> supervisor:get_childspec(Sup, Id) end;
request_of({which, _}, _) -> fun supervisor:which_children/1;
request_of({count, _}, _) -> fun supervisor:count_children/1.

%%% What is reported.

log(Text, D) -> D#d{log = [Text | D#d.log]}.

drain(D) ->
    receive Message -> drain(handle(Message, D)) after 0 -> D end.

handle({{attempt, Id}, {From, Ref}}, D) ->
    N = maps:get(Id, D#d.counts, 0) + 1,
    From ! {Ref, N},
    log(["i ", Id, " ", integer_to_list(N), "\n"], D#d{counts = maps:put(Id, N, D#d.counts)});
handle({{sup_init, Name, Pid, Strategy, Auto}, {From, Ref}}, D) ->
    monitor(process, Pid),
    From ! {Ref, ok},
    Top = case Name of <<>> -> Pid; _ -> D#d.top end,
    D#d{top = Top, p = maps:put(Pid, #p{name = Name, strategy = Strategy, auto = Auto}, D#d.p),
        names = case Name of <<>> -> D#d.names; _ -> maps:put(Name, Pid, D#d.names) end};
handle({hang, Id, N, Pid, Sup, Where, Then}, D) ->
    case maps:find(Pid, D#d.w) of
        {ok, #w{state = gone}} -> D;
        {ok, W} -> D#d{w = maps:put(Pid, W#w{state = {hang, Where, Then}}, D#d.w)};
        error -> new_child(Id, N, Pid, Sup, {hang, Where, Then}, [], D)
    end;
handle({{started, Id, N, Pid, Sup, Starts}, {From, Ref}}, D0) ->
    D1 = log(["s ", Id, " ", integer_to_list(N), "\n"], D0),
    D2 = case maps:find(Pid, D1#d.p) of
        {ok, P} -> D1#d{p = maps:put(Pid, P#p{started = true}, D1#d.p)};
        error -> new_child(Id, N, Pid, Sup, run, Starts, D1#d{pids = maps:put(Id, Pid, D1#d.pids)})
    end,
    %% From here on its end cannot be missed.
    From ! {Ref, ok},
    D2;
handle({ignores, Pid}, D) ->
    case maps:find(Pid, D#d.w) of
        {ok, #w{state = run} = W} -> D#d{w = maps:put(Pid, W#w{state = ignores}, D#d.w)};
        _ -> D
    end;
handle({terminated, _, _, Pid, Reason}, D) -> foretold(Pid, Reason, D);
handle({sup_ends, _, Pid, Reason}, D) -> foretold_sup(Pid, Reason, D);
handle({'DOWN', _, process, Pid, Reason}, D) -> ended(Pid, Reason, D);
handle({answer, start, Result}, D) ->
    D1 = D#d{req = maps:remove(start, D#d.req)},
    case Result of
        {ok, Pid} ->
            P = maps:get(Pid, D1#d.p, #p{name = <<>>, strategy = D1#d.scenario}),
            Ps = case is_map_key(Pid, D1#d.p) of true -> maps:put(Pid, P#p{started = true}, D1#d.p); false -> D1#d.p end,
            log("a start ok\n", D1#d{phase = up, p = Ps, names = maps:put(<<>>, Pid, D1#d.names)});
        {error, {start_spec, _}} -> log("a start refused\n", D1);
        {error, _} -> log("a start failed\n", D1)
    end;
handle({answer, I, Result}, D) ->
    {{Kind, _, _, _}, Req} = maps:take(I, D#d.req),
    log(["a ", integer_to_list(I), " ", answer(Kind, Result, D), "\n"], D#d{req = Req});
handle({waited, _}, D) -> D;
handle(_, D) -> D.

new_child(Id, N, Pid, Sup, State, Starts, D) ->
    case maps:find(Pid, D#d.w) of
        {ok, #w{state = gone}} -> D;
        {ok, W} -> D#d{w = maps:put(Pid, W#w{state = State, starts = Starts}, D#d.w)};
        error ->
            monitor(process, Pid),
            W = #w{id = Id, n = N, sup = Sup, state = State, starts = Starts},
            D#d{w = maps:put(Pid, W, D#d.w)}
    end.

%% Writes a death down before its proof has come.
foretold(Pid, Reason, D) ->
    case maps:find(Pid, D#d.w) of
        {ok, #w{state = gone}} -> D;
        {ok, #w{id = Id, n = N} = W} ->
            D1 = D#d{w = maps:put(Pid, W#w{state = gone}, D#d.w)},
            log(["t ", Id, " ", integer_to_list(N), " ", word(Reason), "\n"], D1);
        error -> D
    end.

foretold_sup(Pid, Reason, D) ->
    case maps:find(Pid, D#d.p) of
        {ok, #p{started = true, gone = false, name = Name} = P} ->
            Word = case Name of <<>> -> "top"; _ -> Name end,
            log(["t ", Word, " 0 ", word(Reason), "\n"], D#d{p = maps:put(Pid, P#p{gone = true}, D#d.p)});
        _ -> D
    end.

ended(Pid, Reason, D) ->
    case maps:find(Pid, D#d.w) of
        {ok, #w{state = State, sup = Sup}} ->
            %% A start that came to nothing is no life.
            D1 = case State of {hang, init, _} -> D; told -> D; _ -> foretold(Pid, Reason, D) end,
            D1#d{w = maps:remove(Pid, D1#d.w), gone = [{Pid, Sup} | D1#d.gone]};
        error ->
            case maps:take(Pid, D#d.p) of
                {#p{started = false}, P} -> D#d{p = P};
                {#p{name = Name}, P} ->
                    D1 = (foretold_sup(Pid, Reason, D))#d{p = P},
                    case Name of <<>> -> D1; _ -> D1#d{gone = [{Pid, D1#d.top} | D1#d.gone]} end;
                error -> D
            end
    end.

word({shutdown, _}) -> "shutdown_with";
word(Reason) when is_atom(Reason) -> atom_to_list(Reason);
word(Reason) -> io_lib:format("other:~0p", [Reason]).

answer(_, gone, _) -> "gone";
answer(which, Children, D) -> ["which ", which(Children, D)];
answer(count, Counts, D) -> ["count ", count(Counts, D)];
answer(spec, {ok, #{restart := R, significant := S, shutdown := T, type := Type}}, _) ->
    io_lib:format("~s,~s,~p,~s", [R, S, T, Type]);
answer(start, {error, {bad_combination, _}}, _) -> "refused";
answer(_, ok, _) -> "ok";
answer(_, {ok, undefined}, _) -> "ignored";
answer(_, {ok, _}, _) -> "ok";
answer(_, {error, {already_started, _}}, _) -> "already_started";
answer(_, {error, Reason}, _) when Reason =:= already_present; Reason =:= running; Reason =:= restarting;
                                   Reason =:= not_found -> atom_to_list(Reason);
answer(_, {error, _}, _) -> "failed".

which([], _) -> "-";
which([{undefined, _, _, _} | _] = Children, D) ->
    Names = [begin
                 {Id, State} = case Child of
                     restarting -> {<<"?">>, "restarting"};
                     Pid -> {case maps:find(Pid, D#d.w) of {ok, #w{id = I}} -> I; error -> <<"stranger">> end, "run"}
                 end,
                 lists:flatten(io_lib:format("~s:~s:~s", [Id, State, Type]))
             end || {undefined, Child, Type, _} <- Children],
    lists:join(",", lists:sort(Names));
which(Children, _) ->
    lists:join(",", [[Id, ":", state(Child), ":", atom_to_list(Type)] || {Id, Child, Type, _} <- lists:reverse(Children)]).

state(undefined) -> "down";
state(restarting) -> "restarting";
state(_) -> "run".

count(Counts, _) ->
    [S, A, P, W] = [proplists:get_value(Key, Counts) || Key <- [specs, active, supervisors, workers]],
    io_lib:format("~b ~b ~b ~b", [S, A, P, W]).

%%% Waiting until nothing moves.

settle(D) ->
    Now = erlang:monotonic_time(millisecond),
    settle(0, D#d{deadline = Now + ?STUCK_MS}).

settle(Tries, D0) ->
    D1 = drain(D0),
    case quiet(D1) of
        {idle, D2} -> empty_or(Tries, fun idle/1, D2);
        {blocked, D2} ->
            %% Asked twice, with time between: the wait for a death looks like the wait for a hanging child.
            receive Message -> settle(Tries, handle(Message, D2))
            after 1 ->
                case quiet(D2) of
                    {blocked, D3} -> empty_or(Tries, fun blocked/1, D3);
                    {_, D3} -> settle(Tries + 1, D3)
                end
            end;
        {no, D2} when Tries < 20 -> erlang:yield(), settle(Tries + 1, D2);
        {no, D2} ->
            case erlang:monotonic_time(millisecond) > D2#d.deadline of
                true -> exit({stuck, D2#d{scenario = x}});
                false -> ok
            end,
            receive Message -> settle(Tries, handle(Message, D2)) after 1 -> settle(Tries, D2) end
    end.

empty_or(Tries, Done, D) ->
    receive Message -> settle(Tries, handle(Message, D)) after 0 -> Done(D) end.

blocked(D) -> log("E busy\n", D).

idle(D0) ->
    D1 = snapshot(log("E idle\n", D0)),
    D1#d{touched = [], causes = [], pending = 0}.

snapshot(#d{phase = up} = D) ->
    lists:foldl(fun({Name, Pid}, Acc) ->
        Which = supervisor:which_children(Pid),
        Count = supervisor:count_children(Pid),
        log(["w ", case Name of <<>> -> "top"; _ -> Name end, " ", which(Which, Acc), " | ", count(Count, Acc), "\n"], Acc)
    end, D, lists:sort([{Name, Pid} || {Pid, #p{name = Name}} <- maps:to_list(D#d.p)]));
snapshot(D) -> D.

quiet(D0) ->
    {Linked, D} = linked(D0),
    Busy = is_busy(D),
    Moving = Linked =/= []
        orelse lists:any(fun(#w{state = S}) -> S =:= told orelse S =:= ignores orelse S =:= gone end, maps:values(D#d.w))
        orelse (not Busy andalso map_size(D#d.req) > 0)
        orelse (not Busy andalso D#d.phase =:= ending andalso is_map_key(D#d.top, D#d.p)),
    case Moving of
        true -> {no, D};
        false ->
            States = [{Pid, sample(Pid, Busy)} || Pid <- maps:keys(D#d.p)],
            Waiting = [Sup || {_, Sup, _, _} <- maps:values(D#d.req), Sup =/= none],
            AllStill = lists:all(fun({_, State}) -> State =/= moving end, States)
                andalso lists:all(fun(Sup) -> lists:member({Sup, blocked}, States) end, Waiting)
                andalso (D#d.phase =/= ending orelse not Busy orelse lists:member({D#d.top, blocked}, States)),
            case {AllStill, Busy} of
                {false, _} -> {no, D};
                {true, true} -> {blocked, D};
                {true, false} -> {idle, D}
            end
    end.

%% Exits that their supervisor has not seen yet: the link is gone once the signal has come.
linked(D) ->
    Gone = [Pair || {Pid, Sup} = Pair <- D#d.gone, still_linked(Pid, Sup)],
    {Gone, D#d{gone = Gone}}.

still_linked(Pid, Sup) ->
    case process_info(Sup, links) of
        {links, Links} -> lists:member(Pid, Links);
        undefined -> false
    end.

sample(Pid, Busy) ->
    case process_info(Pid, [status, message_queue_len, current_function]) of
        [{status, waiting}, {message_queue_len, 0}, {current_function, {gen_server, loop, _}}] -> still;
        [{status, waiting}, {message_queue_len, 0}, {current_function, {erlang, hibernate, _}}] -> still;
        [{status, waiting}, _, {current_function, {M, _, _}}] when Busy, (M =:= proc_lib orelse M =:= supervisor) ->
            blocked;
        _ -> moving
    end.
