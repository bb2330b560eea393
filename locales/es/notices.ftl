### Correos al operador: qué ha fallado en un origen, un servicio, un informe o un flujo.
###
### Cada uno tiene un asunto, qué ha pasado, qué significa y qué hay que hacer. Se trata de usted.
###
### $source, $tenant, $workflow, $service: nombres e identificadores, tal como están guardados.
### $count: cuántos hay; elige el plural.
### $since, $at: un instante en una lista: "24 de noviembre de 2026, 13:05 UTC".
### $on_since, $on_at: el mismo instante tal como sigue a un verbo: "el 24 de noviembre de 2026 a las 13:05 UTC".

## Todos los correos

look = Los orígenes, y hasta dónde están completas las cifras, se ven en el panel.
button = Abrir el panel
because = Recibe este correo porque su dirección está entre las del operador en la configuración de Flowmeter.

# De identificadores de ejecuciones o de instantes.
range = { $first } a { $last }
# Identificadores de ejecuciones, cuando no se conoce el último.
range_without_end = { $first } y posteriores

## Etiquetas de la tabla

label_source = Origen
label_service = Servicio
label_tenant = Cliente
label_gaps = Huecos
label_executions = Ejecuciones
label_reason = Motivo
label_found = Detectado
label_since = Falla desde
label_until = Leído de nuevo
label_attempts = Intentos
label_expected = Previsto
label_messages = Mensajes
label_subject = Procedencia del primero
label_reports = Informes
label_identifier = Primer identificador
label_period = Periodo
label_billable = Facturables
label_stripe = Contadas por Stripe
label_workflow = Primer flujo
label_loops = Bucles
label_per_minute = Inicios en el minuto en curso
label_usual = Lo habitual en un minuto
label_example = Una de ellas
label_skew = Desfase del reloj
label_instances = Instancias de n8n
label_other_sources = Otros orígenes
label_mails = Destinatarios
label_recipient = Destinatario

## Faltan ejecuciones

# $ids: "120 a 180", "120" o "120 y posteriores".
gap =
    .subject = { $count ->
        [one] { $source } tiene un hueco en sus ejecuciones
       *[other] { $source } tiene { $count } huecos en sus ejecuciones
    }
    .what = { $count ->
        [one] { $source } ya no muestra una parte de sus ejecuciones ({ $ids }), y nunca se recogió.
       *[other] Se detectaron { $count } huecos en { $source } (ejecuciones { $ids }): ya no muestra esas ejecuciones, y nunca se recogieron.
    }
    .meaning = Lo que falta no está en ninguna cifra ni en ninguna factura: el consumo real puede ser mayor.
    .next_pruned = Haga que n8n conserve más ejecuciones (EXECUTIONS_DATA_PRUNE_MAX_COUNT, EXECUTIONS_DATA_MAX_AGE) o que Flowmeter lo lea más a menudo (poll_interval).
    .next_vanished = Alguien la borró, o su flujo no guarda las ejecuciones que terminan así.
    .next_epoch_ended = Lo ejecutado entre la última lectura y la restauración no se puede ver. Las lecturas siguen con la base de datos nueva.
    .next_unspecified = `flowmeter sources gaps { $source }` los muestra.

# En la tabla.
gap_reason =
    .vanished = estaba en curso y ya no está
    .pruned = borradas antes de verlas
    .epoch_ended = la base de datos se restauró o se sustituyó
    .unspecified = varios, o desconocido

## No se puede leer un origen

# $reason: uno de failure_reason. $cause: su nombre. $detail: la frase del colector, en inglés. $advice: .next.
failing =
    .subject = No se puede leer { $source }
    .what = { $source } falla desde { $on_since }: { $reason }.
    .meaning = Lo que ejecute entretanto se contará cuando se vuelva a leer, siempre que aún lo muestre.
    .next = { $cause ->
        [unreachable] Compruebe que n8n funciona y que Flowmeter puede llegar a su dirección.
        [unauthorized] Cree una clave de API en n8n (Settings, n8n API) y póngala en el origen.
        [rate_limited] Suba el límite de la clave en n8n, o haga que el origen se lea con menos frecuencia.
        [unreadable] Compruebe que la dirección del origen es la de un n8n, y qué hay delante de él.
        [too_large] Haga que n8n borre sus ejecuciones antiguas, o bórrelas a mano.
        [secret_unreadable] Vuelva a poner la clave de API del origen.
        [internal] El problema no está en el origen: revise el bróker y la base de datos de Flowmeter.
       *[unspecified] Revise el origen.
    }
    .next_with_detail = { $advice } Detalle, en inglés: «{ $detail }»

# En frases y en la tabla.
failure_reason =
    .unreachable = no responde
    .unauthorized = rechaza la clave de API
    .rate_limited = responde que hay demasiadas peticiones
    .unreadable = su respuesta no se entiende
    .too_large = su respuesta es demasiado grande
    .secret_unreadable = la clave de API guardada no se puede abrir
    .internal = no responde el bróker o la base de datos del propio Flowmeter
    .unspecified = no se conoce el motivo

recovered =
    .subject = { $source } se lee de nuevo
    .what = { $source } fallaba desde { $on_since }. Se leyó correctamente { $on_at }.
    .meaning = Lo que ejecutó entretanto se está contando.
    .next = Las ejecuciones que ya no muestre se notificarán como un hueco.

## Un origen puede perder ejecuciones, o cuenta mal

loss =
    .subject = { $source } está a punto de perder ejecuciones
    .what = Al ritmo actual, { $source } borrará ejecuciones antes de que la próxima lectura las vea, aproximadamente { $on_at }.
    .meaning = Lo que se borra antes de verlo no se cuenta nunca.
    .next = Haga que n8n conserve más ejecuciones (EXECUTIONS_DATA_PRUNE_MAX_COUNT), que Flowmeter lo lea más a menudo (poll_interval) o que n8n envíe lo que ejecuta.

contradicted =
    .subject = { $source } no muestra lo que se envió en su nombre
    .what = Hoy se enviaron { $count } ejecuciones de { $source } con datos distintos de los de su propia lista: otro flujo, modo, estado o final.
    .meaning = Las cifras siguen la lista, así que son correctas. Puede que alguien tenga el token de envío del origen.
    .next = Cree un token nuevo (`flowmeter sources push-token { $source }`) y póngalo donde ningún flujo pueda leerlo: el README del hook explica cómo. `flowmeter source audit { $source }` compara la lista entera.

# $by: cuánto, "1m 30s".
clock_ahead =
    .subject = El reloj de { $source } va adelantado { $by }
    .what = El reloj del n8n de { $source } va adelantado { $by } respecto al de Flowmeter.
    .meaning = Una ejecución cerca del final de un periodo se cuenta en el siguiente.
    .next = Ponga en hora esa máquina con NTP. Si recibe este correo por todos los orígenes, el que va mal es el reloj de Flowmeter.

clock_behind =
    .subject = El reloj de { $source } va atrasado { $by }
    .what = El reloj del n8n de { $source } va atrasado { $by } respecto al de Flowmeter.
    .meaning = Una ejecución cerca del final de un periodo se cuenta en el anterior, o como tardía si ese ya se cerró.
    .next = { clock_ahead.next }

shared_token =
    .subject = Varios n8n envían como { $source }
    .what = { $count } instancias de n8n envían sus ejecuciones con el token de { $source }.
    .meaning = Usan los mismos identificadores de ejecución, así que las ejecuciones de todas menos una se consideran repetidas y no se cuentan.
    .next = Cree un origen para cada n8n y un token para cada origen (`flowmeter sources push-token`). n8n muestra el identificador de su instancia en About n8n.

# $others: orígenes.
counted_twice =
    .subject = El n8n de { $source } se mide más de una vez
    .what = El n8n de { $source } envía sus ejecuciones también en nombre de { $others }.
    .meaning = Cada ejecución se cuenta una vez por cada uno de esos orígenes, y así se factura.
    .next = Conserve un origen, elimine los demás y compártalo con atribuciones (por flujo, etiqueta o proyecto).

## Ha fallado un servicio o un informe

# $reason: en inglés, del servicio.
dead =
    .subject = { $count ->
        [one] { $service } no pudo procesar un mensaje
       *[other] { $service } no pudo procesar { $count } mensajes
    }
    .what = { $count ->
        [one] Un mensaje se ha apartado: { $reason }.
       *[other] Se han apartado { $count } mensajes. El motivo del primero: { $reason }.
    }
    .meaning = No se pierde nada: los mensajes apartados se conservan 30 días. Su contenido aún no está en ninguna cifra.
    .next = `flowmeter dead list` los muestra. Cuando se haya resuelto la causa, `flowmeter dead replay` los envía de nuevo.

# $count: informes. $quantity: ejecuciones del primero.
report =
    .subject = { $count ->
        [one] Ha fallado un informe a Stripe sobre { $tenant }
       *[other] Han fallado { $count } informes a Stripe sobre { $tenant }
    }
    .what = { $count ->
        [one] No se pudieron comunicar a Stripe { $quantity } ejecuciones de { $tenant }.
       *[other] No se pudo comunicar a Stripe todo lo que ha usado { $tenant }; el primer informe tiene { $quantity } ejecuciones.
    }
    .what_correction = No se pudo comunicar a Stripe una corrección de { $quantity } ejecuciones de { $tenant }.
    .meaning = No están en ninguna factura hasta que alguien lo resuelva.

drift =
    .subject = Stripe ha contado otra cifra para { $tenant }
    .what = { $tenant } tiene { $billable } ejecuciones facturables en un periodo, y Stripe ha contado { $stripe }.
    .meaning = La factura sigue la cifra de Stripe.
    .next = Busque eventos de medición que otra persona haya enviado o anulado, antes de que la factura sea definitiva.

# $first: una dirección.
refused_mail =
    .subject = { $count ->
        [one] No se puede entregar correo a { $first }
       *[other] No se puede entregar correo a { $count } destinatarios
    }
    .what = { $count ->
        [one] Un correo a { $first } se rechazó y no se enviará de nuevo.
       *[other] Se rechazaron correos a { $count } destinatarios, entre ellos { $first }, y no se enviarán de nuevo.
    }
    .meaning = Estos destinatarios no reciben los avisos de Flowmeter.
    .next = Corrija las direcciones (alert_recipients de un cliente u operator_recipients) y, mientras tanto, avise a los destinatarios por otra vía.

## Un flujo parece iniciarse a sí mismo

# $asked, $usual: ejecuciones en un minuto. $most: hasta dónde es habitual. $started: las que ya se habían iniciado.
loop =
    .subject = { $count ->
        [one] Un flujo de { $tenant } parece iniciarse a sí mismo
       *[other] Hay flujos de { $tenant } que parecen iniciarse a sí mismos ({ $count } veces)
    }
    .what = El flujo { $workflow } de { $tenant } intentó iniciarse { $asked } veces en un minuto; lo habitual son { $usual }.
    .what_most = Más de { $most } se consideran un bucle.
    .what_refusing = En ese minuto ya se habían iniciado { $started }. Sus ejecuciones se rechazan desde { $on_since }.
    .meaning_refusing = Sus ejecuciones se rechazan hasta que el flujo pare durante un minuto o pida menos ejecuciones. Un ritmo que se mantiene alrededor de un cuarto de hora pasa a ser el habitual y ya no se rechaza. Las ejecuciones que ya se iniciaron cuentan.
    .meaning_shadow = El plan está en modo de observación: sus ejecuciones se inician y cuentan. De lo contrario, ahora se rechazarían.
    .meaning_counted = No se rechaza nada por ello: sus ejecuciones se inician y cuentan como las demás.
    .next_refusing = Revise qué inicia el flujo.
    .next = Revise qué inicia el flujo. Un plan puede rechazar esas ejecuciones (admission.loop_rule: refuse).
